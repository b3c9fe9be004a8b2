//! The names of all limits.

/// Which limit somebody met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Open connections of one source.
    SourceConnections,
    /// Connections of all devices: the rest of the places is kept for tunnels.
    TunnelConnections,
    /// Handshakes of one source.
    SourceHandshakes,
    /// Handshakes in all.
    AllHandshakes,
    /// Requests of one source that proved nothing.
    SourceRefused,
    /// Requests for tokens by one source.
    SourceTokens,
    /// Requests for tokens by one bulk token.
    BulkTokens,
    /// Requests for tokens in all.
    AllTokens,
    /// Requests of one device.
    DeviceRequests,
    /// Requests for tokens by one device.
    DeviceTokens,
    /// Messages of one device that is not registered yet.
    DeviceRegistration,
    /// Requests of one device that are under way.
    DeviceAtOnce,
    /// Requests of one source that are under way, those of registered devices left out.
    SourceAtOnce,
    /// Heads that could not be read, too long and too slow ones among them.
    UnreadableHeads,
    /// Bodies that are too large for this gateway, or state no length.
    Bodies,
}

impl Over {
    /// Every limit.
    pub const ALL: [Self; 15] = [
        Self::SourceConnections,
        Self::TunnelConnections,
        Self::SourceHandshakes,
        Self::AllHandshakes,
        Self::SourceRefused,
        Self::SourceTokens,
        Self::BulkTokens,
        Self::AllTokens,
        Self::DeviceRequests,
        Self::DeviceTokens,
        Self::DeviceRegistration,
        Self::DeviceAtOnce,
        Self::SourceAtOnce,
        Self::UnreadableHeads,
        Self::Bodies,
    ];

    /// Its name as a label of a metric: that of its key in the configuration, where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceConnections => "source_connections",
            Self::TunnelConnections => "tunnel_connections",
            Self::SourceHandshakes => "source_handshakes",
            Self::AllHandshakes => "all_handshakes",
            Self::SourceRefused => "source_refused",
            Self::SourceTokens => "source_tokens",
            Self::BulkTokens => "bulk_tokens",
            Self::AllTokens => "all_tokens",
            Self::DeviceRequests => "device_requests",
            Self::DeviceTokens => "device_tokens",
            Self::DeviceRegistration => "device_registration",
            Self::DeviceAtOnce => "device_at_once",
            Self::SourceAtOnce => "source_at_once",
            Self::UnreadableHeads => "unreadable_heads",
            Self::Bodies => "bodies",
        }
    }
}
