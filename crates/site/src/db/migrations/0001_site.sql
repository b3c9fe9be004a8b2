-- The site itself: keys, settings, operators, audit, roles, bulk tokens.
-- Times are microseconds UTC, ids 16 bytes, booleans 0 or 1.

CREATE TABLE site (
    id {int} PRIMARY KEY CHECK (id = 1),
    code TEXT NOT NULL,
    name TEXT NOT NULL,
    hierarchy_id {bytes} NOT NULL,
    created_at {int} NOT NULL
) {strict};

CREATE TABLE site_key (
    key_id {bytes} PRIMARY KEY,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,
    certificate {bytes} NOT NULL,
    sealed {bytes} NOT NULL,
    created_at {int} NOT NULL,
    changed_at {int} NOT NULL,
    last_expiry {int} NOT NULL
) {strict};

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    changed_at {int} NOT NULL,
    changed_by TEXT NOT NULL
) {strict};

-- Ordered: the first rule that fits decides.
CREATE TABLE approval_rule (
    position {int} PRIMARY KEY,
    kind TEXT NOT NULL,
    argument TEXT NOT NULL
) {strict};

CREATE TABLE operator (
    operator_id {bytes} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_hash {bytes} NOT NULL UNIQUE,
    created_at {int} NOT NULL,
    disabled {int} NOT NULL
) {strict};

CREATE TABLE audit (
    seq {int} PRIMARY KEY,
    at {int} NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT,
    act TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash {bytes} NOT NULL
) {strict};

CREATE TABLE audit_head (
    id {int} PRIMARY KEY CHECK (id = 1),
    seq {int} NOT NULL,
    hash {bytes} NOT NULL,
    seal {bytes} NOT NULL
) {strict};

-- What gateways are told: one row a version, the newest kept for deltas.
CREATE TABLE snapshot_change (
    version {int} PRIMARY KEY,
    at {int} NOT NULL,
    change TEXT NOT NULL
) {strict};

CREATE TABLE role (
    role_id {int} PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    internal_url TEXT NOT NULL,
    mode TEXT NOT NULL,
    gateway_traffic {int} NOT NULL,
    created_at {int} NOT NULL
) {strict};

-- Gateways and connection points: whoever holds a link certificate. A removed one stays as
-- withdrawn until its certificate has expired. What they report of themselves is not kept here.
CREATE TABLE link_party (
    party_id {bytes} PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    address TEXT NOT NULL,
    thumbprint {bytes} NOT NULL UNIQUE,
    expires_at {int} NOT NULL,
    created_at {int} NOT NULL,
    withdrawn {int} NOT NULL
) {strict};
CREATE UNIQUE INDEX link_party_name ON link_party (kind, name) WHERE withdrawn = 0;

-- What the links report: bounded, oldest out first.
CREATE TABLE link_event (
    event_id {int} PRIMARY KEY,
    at {int} NOT NULL,
    party_id {bytes} NOT NULL,
    request_id {bytes} NOT NULL,
    event TEXT NOT NULL
) {strict};
CREATE INDEX link_event_request ON link_event (request_id);

-- Never the token's text: id, life and bounds only.
CREATE TABLE bulk_token (
    token_id {bytes} PRIMARY KEY,
    created_at {int} NOT NULL,
    expires_at {int} NOT NULL,
    max_uses {int},
    -- How many rows bulk_token_use has for it.
    uses {int} NOT NULL,
    approval TEXT NOT NULL,
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    blocked {int} NOT NULL
) {strict};

-- One row a key: the same device coming again is no second use.
CREATE TABLE bulk_token_use (
    token_id {bytes} NOT NULL REFERENCES bulk_token (token_id),
    thumbprint {bytes} NOT NULL,
    client_id {bytes} NOT NULL,
    used_at {int} NOT NULL,
    PRIMARY KEY (token_id, thumbprint)
) {strict};
