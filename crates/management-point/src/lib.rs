//! Authenticates device messages, one handler per endpoint, and the token service
