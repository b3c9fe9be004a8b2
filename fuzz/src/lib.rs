//! What the targets of the tunnel call; the ordinary tests of the crate `tunnel` include the same folder.

#[expect(dead_code, reason = "seeds of schedules are for the ordinary tests alone")]
#[path = "../../crates/tunnel/tests/tunnel/model/mod.rs"]
mod model;

use model::choices::Choices;

/// More than any input fills; a run ends with its bytes.
const STEPS: usize = 100_000;

/// Bytes as frames, read by the engine and by a second reader.
pub fn tunnel_frame(data: &[u8]) {
    model::page::whatever_the_bytes(data);
}

/// Bytes as what a gateway's peer writes and its callers call.
pub fn tunnel_gateway_side(data: &[u8]) {
    model::hostile_peer::against_gateway(&mut Choices::Bytes(data), STEPS);
}

/// Bytes as what a connector's peer writes and its callers call.
pub fn tunnel_connector_side(data: &[u8]) {
    model::hostile_peer::against_connector(&mut Choices::Bytes(data), STEPS);
}

/// Bytes as a schedule for both sides and the connection between them.
pub fn tunnel_pair(data: &[u8]) {
    model::simulation::run(&mut Choices::Bytes(data), STEPS);
}
