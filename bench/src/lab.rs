//! A lab of our own, started for a measurement.
