"""A part of the contract suite once more without a statement cache, as PostgreSQL stands behind a pooler in transaction mode."""

from __future__ import annotations

import pytest

from ..support.storage import UNCACHED, with_its_server
from .test_concurrent_copies import (
    test_two_copies_of_a_verb_at_once_end_as_one_after_the_other,
    test_two_keys_made_at_once_are_two,
    test_what_two_leaders_sequence_at_once_stands_in_the_log_once,
)
from .test_webhook_intake import (
    test_a_repeated_key_with_another_body_is_refused_with_422,
    test_a_repeated_key_with_the_same_body_gets_the_first_message_again,
    test_copies_at_once_through_two_doors_make_one_message,
)
from .test_webhook_store import test_an_owner_that_lost_its_lease_to_another_changes_no_state_and_its_attempt_is_late

__all__ = [
    "test_a_repeated_key_with_another_body_is_refused_with_422",
    "test_a_repeated_key_with_the_same_body_gets_the_first_message_again",
    "test_an_owner_that_lost_its_lease_to_another_changes_no_state_and_its_attempt_is_late",
    "test_copies_at_once_through_two_doors_make_one_message",
    "test_two_copies_of_a_verb_at_once_end_as_one_after_the_other",
    "test_two_keys_made_at_once_are_two",
    "test_what_two_leaders_sequence_at_once_stands_in_the_log_once",
]


@pytest.fixture(params=[UNCACHED])
def engine(request):
    return with_its_server(request)
