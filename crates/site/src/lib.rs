//! Sole owner of database and signing keys; one method per operation
