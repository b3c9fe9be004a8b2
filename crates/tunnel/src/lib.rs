//! The protocol between connection point and gateway: frames, credit, timers; no I/O
