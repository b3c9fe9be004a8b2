//! HRESULTs: the 32-bit codes that clients print, with what they mean.

use std::fmt;

/// A 32-bit result code as clients print it: `0x87d00231`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hresult(pub u32);

impl fmt::Display for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A transient error: no usable path or identity, or nobody answered [docs].
pub const TRANSIENT: Hresult = Hresult(0x87d0_0231);
/// `CCM_E_BAD_HTTP_STATUS_CODE`: any refused HTTP status [docs].
pub const BAD_HTTP_STATUS: Hresult = Hresult(0x87d0_027e);
/// `CCM_E_NO_CLIENT_PKI_CERT`: HTTPS without a certificate and without a token [docs].
pub const NO_CLIENT_CERTIFICATE: Hresult = Hresult(0x87d0_0454);
/// `ERROR_WINHTTP_SECURE_FAILURE` (12175): the server's certificate was not accepted [docs].
pub const SECURE_FAILURE: Hresult = Hresult(0x8007_2f8f);
/// The name could not be resolved [docs].
pub const NAME_NOT_RESOLVED: Hresult = Hresult(0x8007_2ee7);
/// The server could not be reached (`ERROR_WINHTTP_CANNOT_CONNECT`).
pub const CANNOT_CONNECT: Hresult = Hresult(0x8007_2efd);
/// No answer in time (`ERROR_WINHTTP_TIMEOUT`).
pub const TIMEOUT: Hresult = Hresult(0x8007_2ee2);
