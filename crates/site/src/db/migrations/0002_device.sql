-- Devices and what they send.

CREATE TABLE device (
    client_id {bytes} PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name in lower case, by which two records are compared.
    name_key TEXT NOT NULL,
    fqdn TEXT NOT NULL,
    hardware_id TEXT,
    signing_thumbprint {bytes} NOT NULL UNIQUE,
    signing_certificate {bytes} NOT NULL,
    encryption_certificate {bytes} NOT NULL,
    client_version TEXT NOT NULL,
    signs_requests {int} NOT NULL,
    registered_at {int} NOT NULL,
    -- 'approved', 'held'; the rule or the operator that decided, and when.
    approval TEXT NOT NULL,
    approved_by TEXT NOT NULL,
    approval_at {int} NOT NULL,
    blocked {int} NOT NULL,
    block_note TEXT NOT NULL,
    -- The other record of the same hardware or name, when two keys claim it.
    conflict_with {bytes},
    method TEXT NOT NULL,
    method_reason TEXT NOT NULL,
    method_since {int} NOT NULL,
    confirmed_at {int},
    token_expires_at {int},
    last_seen_at {int} NOT NULL,
    last_seen_via TEXT NOT NULL,
    policy_serial {int} NOT NULL,
    policy_applied_at {int},
    heartbeat TEXT NOT NULL,
    heartbeat_at {int}
) {strict};
CREATE INDEX device_name ON device (name_key);
CREATE INDEX device_hardware ON device (hardware_id);
CREATE INDEX device_blocked ON device (blocked);

-- Message ids of devices that sign: each is taken once. Kept for twice the time window.
CREATE TABLE message_taken (
    client_id {bytes} NOT NULL,
    message_id {bytes} NOT NULL,
    taken_at {int} NOT NULL,
    PRIMARY KEY (client_id, message_id)
) {strict};
CREATE INDEX message_taken_at ON message_taken (taken_at);

CREATE TABLE report (
    report_id {int} PRIMARY KEY,
    -- The all-zero id for a report that proves no sender.
    client_id {bytes} NOT NULL,
    endpoint TEXT NOT NULL,
    payload_hash {bytes} NOT NULL,
    verified {int} NOT NULL,
    kind TEXT NOT NULL,
    received_at {int} NOT NULL,
    sent_at {int},
    request_id {bytes} NOT NULL,
    header TEXT NOT NULL,
    document {bytes} NOT NULL
) {strict};
CREATE UNIQUE INDEX report_once ON report (client_id, endpoint, payload_hash);
CREATE INDEX report_newest ON report (client_id, endpoint, report_id);
