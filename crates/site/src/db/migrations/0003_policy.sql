-- Policy: bodies, and at which collections they are aimed.

CREATE TABLE policy (
    policy_id TEXT NOT NULL,
    version TEXT NOT NULL,
    -- The bytes as served; of a secret one, what is encrypted to each device, sealed here.
    body {bytes} NOT NULL,
    -- SHA-256 over the bytes as they are served.
    hash {bytes} NOT NULL,
    category TEXT NOT NULL,
    flags {int} NOT NULL,
    -- Counts the versions of one policy.
    revision {int} NOT NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (policy_id, version)
) {strict};

CREATE TABLE collection (
    collection_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at {int} NOT NULL
) {strict};

-- Members by hand. "All devices" has none: every device is in it.
CREATE TABLE collection_member (
    collection_id TEXT NOT NULL REFERENCES collection (collection_id),
    client_id {bytes} NOT NULL REFERENCES device (client_id),
    PRIMARY KEY (collection_id, client_id)
) {strict};

-- An assignment points at one version; a new version moves it.
CREATE TABLE policy_assignment (
    assignment_id {bytes} PRIMARY KEY,
    policy_id TEXT NOT NULL,
    version TEXT NOT NULL,
    collection_id TEXT NOT NULL REFERENCES collection (collection_id),
    created_at {int} NOT NULL,
    changed_at {int} NOT NULL,
    UNIQUE (policy_id, collection_id),
    FOREIGN KEY (policy_id, version) REFERENCES policy (policy_id, version)
) {strict};

-- Rises with every change of any policy or assignment: the serial in signed policy.
CREATE TABLE policy_serial (
    id {int} PRIMARY KEY CHECK (id = 1),
    serial {int} NOT NULL
) {strict};
