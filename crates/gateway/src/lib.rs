//! The internet-facing role: admits devices, holds no database and no signing key
