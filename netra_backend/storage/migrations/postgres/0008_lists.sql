-- What an endpoint's pages show: its messages by id, the newest first, and figures over a time.

create index netra_delivery_of_endpoint on netra_delivery (tenant, endpoint_id, message_id);
