-- Credentials that come and go on a device's record, who knocks in vain, what makes a copy
-- suspect, client settings by collection, policy for users.

ALTER TABLE device ADD COLUMN join_kind TEXT;
-- JSON list of methods that do not carry the device, with the reason of each.
ALTER TABLE device ADD COLUMN methods_refused TEXT NOT NULL DEFAULT '[]';
-- Since when it has been below the certificate that it had.
ALTER TABLE device ADD COLUMN fell_back_at {int};
ALTER TABLE device ADD COLUMN entra_tenant {bytes};
ALTER TABLE device ADD COLUMN entra_device {bytes};
ALTER TABLE device ADD COLUMN entra_user {bytes};
ALTER TABLE device ADD COLUMN pki_thumbprint {bytes};
ALTER TABLE device ADD COLUMN pki_subject TEXT;
ALTER TABLE device ADD COLUMN pki_not_after {int};
-- Leaf first, base64 of DER, separated by commas.
ALTER TABLE device ADD COLUMN pki_chain TEXT;
-- Its clock minus the site's, in milliseconds, as last measured.
ALTER TABLE device ADD COLUMN clock_skew_ms {int};
ALTER TABLE device ADD COLUMN recovered_at {int};
-- JSON of why it is held as a copy; NULL for all others.
ALTER TABLE device ADD COLUMN clone_suspicion TEXT;
-- The address that its last request came from, as the management point saw it.
ALTER TABLE device ADD COLUMN last_address TEXT;
CREATE INDEX device_entra ON device (entra_tenant, entra_device);
CREATE INDEX device_conflict ON device (conflict_with);
CREATE INDEX device_fell_back ON device (fell_back_at);
CREATE INDEX device_token_end ON device (token_expires_at);
CREATE INDEX device_pki_end ON device (pki_not_after);

-- Every PKI certificate that a device has proved and that has not ended: a block names all.
CREATE TABLE device_certificate (
    client_id {bytes} NOT NULL REFERENCES device (client_id),
    thumbprint {bytes} NOT NULL,
    not_after {int} NOT NULL,
    proved_at {int} NOT NULL,
    PRIMARY KEY (client_id, thumbprint)
) {strict};
CREATE INDEX device_certificate_thumbprint ON device_certificate (thumbprint);

-- What was observed that one device alone may not produce: JSON, one row a device or pair.
CREATE TABLE clone_trace (
    subject TEXT PRIMARY KEY,
    trace TEXT NOT NULL,
    changed_at {int} NOT NULL
) {strict};
CREATE INDEX clone_trace_changed ON clone_trace (changed_at);

-- Who knocks with credentials that open nothing any more. Bounded; strangers go first.
CREATE TABLE stranded (
    -- A client id, or the thumbprint of a key that no record has.
    subject TEXT PRIMARY KEY,
    client_id {bytes},
    thumbprint {bytes},
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    via TEXT NOT NULL,
    address TEXT,
    first_at {int} NOT NULL,
    last_at {int} NOT NULL,
    knocks {int} NOT NULL
) {strict};
CREATE INDEX stranded_last ON stranded (last_at);

CREATE INDEX collection_member_device ON collection_member (client_id);

-- Client settings for collections; the smallest priority wins. "default" is for all devices.
CREATE TABLE client_settings (
    settings_id {bytes} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    name_key TEXT NOT NULL UNIQUE,
    priority {int} NOT NULL UNIQUE,
    -- JSON object of texts.
    settings TEXT NOT NULL,
    changed_at {int} NOT NULL,
    changed_by TEXT NOT NULL
) {strict};

-- Collections that they are for, and (excluded = 1) those that they are not for.
CREATE TABLE client_settings_target (
    settings_id {bytes} NOT NULL REFERENCES client_settings (settings_id),
    collection_id TEXT NOT NULL REFERENCES collection (collection_id),
    excluded {int} NOT NULL,
    PRIMARY KEY (settings_id, collection_id)
) {strict};
CREATE INDEX client_settings_target_collection ON client_settings_target (collection_id);

-- One row for each combination of client settings that some device has: the version of the body
-- that it leads to, and the hash of what that body says.
CREATE TABLE client_settings_variant (
    variant TEXT PRIMARY KEY,
    content {bytes} NOT NULL,
    version TEXT NOT NULL
) {strict};
CREATE INDEX client_settings_variant_content ON client_settings_variant (content);
-- From now on each device has a body of its own resultant.
DELETE FROM policy_assignment WHERE policy_id LIKE '_5f0d8c1e-7a34-4b1c-9e52-3c7d10a6e2b8_';

-- The list that a device was told last, by its hash, and when that changed.
CREATE TABLE device_policy (
    client_id {bytes} PRIMARY KEY REFERENCES device (client_id),
    digest {bytes} NOT NULL,
    changed_at {int} NOT NULL
) {strict};

-- Policy for a user of a tenant; the all-zero user means all users of the tenant.
CREATE TABLE user_policy_assignment (
    assignment_id {bytes} PRIMARY KEY,
    policy_id TEXT NOT NULL,
    version TEXT NOT NULL,
    tenant_id {bytes} NOT NULL,
    user_id {bytes} NOT NULL,
    created_at {int} NOT NULL,
    changed_at {int} NOT NULL,
    UNIQUE (policy_id, tenant_id, user_id),
    FOREIGN KEY (policy_id, version) REFERENCES policy (policy_id, version)
) {strict};
