//! A tenant for the lab and for tests.
