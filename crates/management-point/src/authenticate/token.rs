//! Tokens of the site.

use proto::endpoint::Caller;
use proto::id::{ClientId, Thumbprint};
use proto::identity::{Method, bearer, judge_token};
use proto::reason::Reason;
use proto::token::{EntraOrigin, Token, TokenClass};
use site::UserRef;

use crate::answer::{Refusal, Style};
use crate::context::Context;
use crate::handler::Handler;
use crate::request::Request;

/// A token that the site signed, for a class that this endpoint takes. Its time, key and blocks
/// are judged by [`Presented::judge`], once it is known which key the caller has proved.
#[derive(Debug)]
pub(crate) struct Presented {
    pub(crate) token: Token,
    style: Style,
}

/// What a token is worth here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// The caller holds its key (or the site asks for none): it stands for its class.
    Full,
    /// The key was not proved here: it opens what is open without a token.
    NoMoreThanNothing,
}

/// The token's text; `None`: no `Authorization` header. One of another kind is refused.
pub(crate) fn text(request: &Request, generic: Reason) -> Result<Option<&str>, Refusal> {
    let Some(value) = request.headers.get("authorization") else { return Ok(None) };
    let text = value.to_str().ok().and_then(bearer);
    text.map(Some).ok_or_else(|| Refusal::new(generic, "the Authorization header holds no bearer token"))
}

/// Reads the request's token and checks its signature, origin and class.
pub(crate) fn present(context: &Context, request: &Request) -> Result<Option<Presented>, Refusal> {
    let style = Handler::of(request.endpoint).style();
    let Some(text) = text(request, not_accepted(style))? else {
        // Whoever comes by a certificate through a gateway has shown it there. That is only why there
        // is no token: what the sender may do, its message proves or nothing does.
        let by_certificate = request.is_open_to(Caller::Certificate) && names_certificate(request);
        if request.is_open_to(Caller::Anonymous) || by_certificate {
            return Ok(None);
        }
        let reason = if style == Style::TokenService {
            Reason::StsTokenMissing
        } else {
            Reason::InsideTokenNotAccepted
        };
        return Err(Refusal::new(reason, "no token"));
    };
    let token = context
        .verified
        .verify(&context.site.token_keys(), text)
        .map_err(|error| Refusal::caused(not_accepted(style), &error))?;
    Ok(Some(Presented { token, style }))
}

fn names_certificate(request: &Request) -> bool {
    matches!(request.peer_certificate(), Ok(Some(_)))
}

impl Presented {
    /// Judges it for an endpoint, given the certificate whose key the caller has proved.
    pub(crate) fn judge(
        &self,
        context: &Context,
        request: &Request,
        shown: Option<Thumbprint>,
    ) -> Result<Worth, Refusal> {
        let class = self.token.class.caller();
        let settings = context.site.settings();
        let snapshot = context.site.current_snapshot();
        let judge =
            |shown| judge_token(&self.token, shown, settings.token_binding, &*snapshot, context.now());
        let worth = match judge(shown) {
            Ok(()) => Worth::Full,
            Err(Reason::TokenKeyMissing) => match judge(self.token.confirmation) {
                Ok(()) => Worth::NoMoreThanNothing,
                Err(reason) => {
                    let detail = format!("{} ({reason}), and its key was not proved", reason.row().cause);
                    return Err(Refusal::new(not_accepted(self.style), detail));
                }
            },
            Err(reason) => return Err(self.refuse(context, reason)),
        };
        if request.is_open_to(class) {
            return Ok(worth);
        }
        let detail = format!("a token of class {:?} at {}", self.token.class, request.endpoint.path);
        Err(match worth {
            Worth::Full => self.about(Refusal::new(self.wrong_endpoint(), detail)),
            Worth::NoMoreThanNothing => Refusal::new(not_accepted(self.style), detail),
        })
    }

    /// Whether it is a device's own token that has ended, and its key was proved here: that buys a way
    /// back, which the site judges.
    pub(crate) fn has_ended(&self, context: &Context, shown: Option<Thumbprint>) -> bool {
        let settings = context.site.settings();
        let snapshot = context.site.current_snapshot();
        self.token.class == TokenClass::SelfProve
            && shown.is_some()
            && judge_token(&self.token, shown, settings.token_binding, &*snapshot, context.now())
                == Err(Reason::TokenExpired)
    }

    /// The refusal of a token of a class that a message's endpoint does not take.
    pub(crate) fn refuse_class(&self, endpoint: &str) -> Refusal {
        let detail = format!("a token of class {:?} at {endpoint}", self.token.class);
        self.about(Refusal::new(self.wrong_endpoint(), detail))
    }

    /// By what its holder proved itself when it was given.
    pub(crate) fn method(&self) -> Method {
        match self.token.entra {
            Some(EntraOrigin { user: Some(_), .. }) => Method::EntraUser,
            Some(EntraOrigin { user: None, .. }) => Method::EntraDevice,
            None => Method::SiteToken,
        }
    }

    /// The user that it names, in the class of users.
    pub(crate) fn user(&self) -> Option<UserRef> {
        let EntraOrigin { tenant, user, .. } = self.token.entra?;
        (self.token.class == TokenClass::User).then_some(UserRef { tenant, user: user? })
    }

    /// The device that it names.
    pub(crate) fn device(&self) -> Option<ClientId> {
        self.token.device
    }

    /// `reason` in the words of this hop. The gateway's generic ones stay generic.
    fn refuse(&self, context: &Context, reason: Reason) -> Refusal {
        let sts = self.style == Style::TokenService;
        let told = match reason {
            Reason::TokenExpired if sts => Reason::StsTokenExpired,
            Reason::TokenExpired => Reason::InsideTokenExpired,
            Reason::BulkTokenBlocked if sts => Reason::StsBulkTokenBlocked,
            Reason::BulkTokenBlocked => Reason::BulkTokenBlocked,
            Reason::DeviceBlocked if sts => Reason::StsDeviceBlocked,
            Reason::DeviceBlocked => Reason::Blocked,
            Reason::TenantDisabled if sts => Reason::StsTenantDisabled,
            Reason::TenantDisabled => Reason::TenantDisabled,
            _ => not_accepted(self.style),
        };
        let detail = match self.token.check_time(context.now()) {
            Err(error) => error.to_string(),
            Ok(()) => reason.row().cause.to_owned(),
        };
        let refusal = Refusal::new(told, detail);
        if told == not_accepted(self.style) { refusal } else { self.about(refusal) }
    }

    fn about(&self, refusal: Refusal) -> Refusal {
        match self.token.device {
            Some(device) => refusal.of(device),
            None => refusal,
        }
    }

    fn wrong_endpoint(&self) -> Reason {
        match self.style {
            Style::TokenService => Reason::StsTokenNotAccepted,
            Style::Message | Style::Document => Reason::InsideTokenWrongEndpoint,
        }
    }
}

/// What a caller learns that has proved nothing.
fn not_accepted(style: Style) -> Reason {
    match style {
        Style::TokenService => Reason::StsTokenNotAccepted,
        Style::Message | Style::Document => Reason::InsideTokenNotAccepted,
    }
}
