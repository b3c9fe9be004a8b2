//! The device side: setup, registration, tokens, policy
