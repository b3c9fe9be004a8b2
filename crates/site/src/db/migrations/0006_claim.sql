-- Since when a record has claimed its hardware id, and how many keys a tenant's user brings.

-- Its last hardware id that was not empty, and since when it has been that; NULL: since its registration.
ALTER TABLE device ADD COLUMN hardware_known TEXT;
ALTER TABLE device ADD COLUMN hardware_since {int};

-- Keys that were approved, within a day, by a token that names a user of a tenant and no device.
CREATE TABLE entra_user_key (
    tenant_id {bytes} NOT NULL,
    user_id {bytes} NOT NULL,
    signing_thumbprint {bytes} NOT NULL,
    first_at {int} NOT NULL,
    PRIMARY KEY (tenant_id, user_id, signing_thumbprint)
) {strict};
CREATE INDEX entra_user_key_first ON entra_user_key (first_at);
CREATE INDEX device_approved_by ON device (approved_by);
