-- Authorities of other people, their revocation lists, tenants, directories, and who is known there.

CREATE TABLE authority (
    thumbprint {bytes} PRIMARY KEY,
    position {int} NOT NULL,
    -- Its name and key as an issuer: two certificates of one authority share it.
    issuer_id TEXT NOT NULL,
    der {bytes} NOT NULL,
    root {int} NOT NULL,
    added_at {int} NOT NULL,
    added_by TEXT NOT NULL
) {strict};
CREATE INDEX authority_issuer ON authority (issuer_id);

-- One list an issuer, as its issuer signed it.
CREATE TABLE crl (
    issuer_id TEXT PRIMARY KEY,
    issuer_name TEXT NOT NULL,
    digest {bytes} NOT NULL,
    number TEXT NOT NULL,
    this_update {int} NOT NULL,
    next_update {int} NOT NULL,
    entries {int} NOT NULL,
    source TEXT NOT NULL,
    accepted_at {int} NOT NULL,
    der {bytes} NOT NULL
) {strict};

-- What the last attempt to fetch an issuer's list met; an empty problem: it went well.
CREATE TABLE crl_try (
    issuer_id TEXT PRIMARY KEY,
    tried_at {int} NOT NULL,
    problem TEXT NOT NULL
) {strict};

-- Distribution points that certificates name whose chain the site trusts.
CREATE TABLE crl_url (
    issuer_id TEXT NOT NULL,
    url TEXT NOT NULL,
    learnt_at {int} NOT NULL,
    PRIMARY KEY (issuer_id, url)
) {strict};

CREATE TABLE tenant (
    tenant_id {bytes} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- Lists as JSON.
    issuers TEXT NOT NULL,
    audiences TEXT NOT NULL,
    client_app_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    authority TEXT NOT NULL,
    graph_url TEXT NOT NULL,
    discovery_app_id TEXT NOT NULL,
    secret {bytes},
    secret_expires_at {int},
    ca_pem TEXT,
    discovery {int} NOT NULL,
    enabled {int} NOT NULL,
    created_at {int} NOT NULL,
    created_by TEXT NOT NULL,
    -- The key set as JSON, and until when it counts as published.
    keys TEXT NOT NULL,
    keys_fetched_at {int},
    keys_until {int},
    keys_problem TEXT NOT NULL,
    user_seen_at {int},
    hybrid_seen_at {int}
) {strict};

CREATE TABLE directory (
    directory_id {bytes} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    base TEXT NOT NULL,
    filter TEXT NOT NULL,
    bind_dn TEXT NOT NULL,
    secret {bytes},
    ca_pem TEXT,
    start_tls {int} NOT NULL,
    created_at {int} NOT NULL,
    created_by TEXT NOT NULL
) {strict};

-- How the discovery of each source stands: 'tenant:<guid>' or 'directory:<guid>'.
CREATE TABLE sync (
    source TEXT PRIMARY KEY,
    -- Counts the runs; a row found by an older one has vanished when a full one ends.
    run {int} NOT NULL,
    started_at {int},
    full_at {int},
    delta_at {int},
    failed_at {int},
    problem TEXT NOT NULL,
    next_due_at {int} NOT NULL,
    full_wanted {int} NOT NULL,
    delta_link TEXT,
    -- How many it knew when the last run ended.
    users {int} NOT NULL,
    devices {int} NOT NULL
) {strict};

-- Each source keeps its own row of a user: a tenant by object id, a directory by SID.
CREATE TABLE found_user (
    source TEXT NOT NULL,
    source_key TEXT NOT NULL,
    object_id {bytes},
    sid TEXT,
    principal_name TEXT NOT NULL,
    -- All names in lower case, for searching.
    name_key TEXT NOT NULL,
    display_name TEXT NOT NULL,
    mail TEXT NOT NULL,
    account TEXT NOT NULL,
    domain TEXT NOT NULL,
    distinguished_name TEXT NOT NULL,
    run {int} NOT NULL,
    seen_at {int} NOT NULL,
    vanished_at {int},
    PRIMARY KEY (source, source_key)
) {strict};
CREATE INDEX found_user_object ON found_user (object_id);
CREATE INDEX found_user_sid ON found_user (sid);
CREATE INDEX found_user_name ON found_user (name_key);

CREATE TABLE found_device (
    source TEXT NOT NULL,
    source_key TEXT NOT NULL,
    device_id {bytes},
    sid TEXT,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    -- The organisational unit: the distinguished name without its first part.
    unit TEXT NOT NULL,
    distinguished_name TEXT NOT NULL,
    run {int} NOT NULL,
    seen_at {int} NOT NULL,
    vanished_at {int},
    PRIMARY KEY (source, source_key)
) {strict};
CREATE INDEX found_device_sid ON found_device (sid);
CREATE INDEX found_device_name ON found_device (name_key);

-- Devices that an operator expects. The first key that fits takes the entry.
CREATE TABLE expected_device (
    entry_id {bytes} PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    hardware_id TEXT NOT NULL,
    note TEXT NOT NULL,
    added_at {int} NOT NULL,
    added_by TEXT NOT NULL,
    taken_by {bytes},
    taken_at {int}
) {strict};
CREATE INDEX expected_device_name ON expected_device (name_key);
CREATE INDEX expected_device_hardware ON expected_device (hardware_id);

-- Serials of link certificates, so that withdrawn ones can stand on the site's revocation list.
CREATE TABLE issued_certificate (
    thumbprint {bytes} PRIMARY KEY,
    serial {bytes} NOT NULL,
    expires_at {int} NOT NULL,
    issued_at {int} NOT NULL,
    revoked_at {int}
) {strict};

ALTER TABLE role ADD COLUMN demand_client_certificate {int} NOT NULL DEFAULT 0;
