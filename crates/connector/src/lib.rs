//! The connection point: dials out to every gateway, forwards in, listens nowhere
