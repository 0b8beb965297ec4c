-- Users' ways to providers go a day after they began, once they have ended.

create index netra_connect_flow_ended on netra_connect_flow (created_us) where outcome is not null;
