"""What can be wrong with a provider, a login or a session."""

from __future__ import annotations

from ...errors import Conflict, InvalidInput, NetraError, NotFound


class UnknownProvider(NotFound):
    """There is no such sign-on provider."""

    code = "unknown_provider"
    fix = "`netra sso status` shows those that there are; PUT .../sso/providers/NAME adds one."


class NoProvider(NotFound):
    """Nobody has set up single sign-on here."""

    code = "no_provider"
    fix = "Add a provider: PUT /api/v1/tenants/T/sso/providers/NAME."


class BadProvider(InvalidInput):
    """A provider cannot be set up like this."""

    code = "bad_provider"
    fix = "docs/sso.md tells what a provider may have."


class AlreadyLinked(Conflict):
    """This identity is linked to another one."""

    code = "already_linked"
    fix = "One person has one identity at each issuer; remove the other link first."


class RotationMoved(Conflict):
    """Where logins go was changed by somebody else at this very moment."""

    code = "rotation_moved"
    fix = "Look at it, and repeat what you asked for."


class LoginRefused(NetraError):
    """The provider's answer let nobody in."""

    code = "login_refused"
    status = 403
    fix = "Log in again. Where it lasts, ask whoever administers your tenant."

    def __init__(self, reason: str, detail: str = "") -> None:
        """`reason` is a word for programs: `unknown_subject`, `no_role`, `wrong_browser`, a verdict's code, an OAuth error."""
        super().__init__(f"the login was refused: {reason}" + (f" ({detail})" if detail else ""), reason=reason)
        self.reason = reason
