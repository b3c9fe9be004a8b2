//! From a tunnel's stream to a role and back: one call a request.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::id::RequestId;
use proto::link::{GatewayTarget, RequestHead, reset};
use proto::reason::{self, Reason};
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout};
use tracing::field::display;
use tracing::{debug, info, warn};

use crate::answer;
use crate::context::Context;
use crate::counters::{Outcome, RecentRows};
use crate::events::Occurrence;
use crate::log::{self, COMPONENT, StatusLine};
use crate::request::{Framing, Plan, plan};
use crate::role_client::{Answer, AnswerError, ExchangeError, Patience, Sender};
use crate::stream::{Gone, NotAnswered, RequestStream};
use crate::workers::Worker;

/// Bytes of an answer that pass in one go. Behind it wait the thread's other requests, for some hundred microseconds.
const GIVEN_AT_ONCE: usize = 64 * 1024;
/// Largest body that is held whole, so that the request can be sent again (settled point 14).
const HELD_BODY: usize = 64 * 1024;
/// A request that took longer is reported to the site.
const SLOW: Duration = Duration::from_secs(5);

/// The way of requests that come out of one tunnel. One object for all of them, so that none counts its holds on
/// what other threads count theirs on.
#[derive(Debug)]
pub(crate) struct Passage {
    /// What all parts share.
    pub(crate) context: Arc<Context>,
    /// Where requests come from.
    pub(crate) gateway: Arc<GatewayTarget>,
    /// The thread, with its connections to the roles.
    pub(crate) worker: Arc<Worker>,
    /// Where requests are counted.
    pub(crate) rows: RecentRows,
}

/// Why a request did not go through.
#[derive(Debug)]
enum Failure {
    /// Nobody waits any more.
    Cancelled,
    /// Answered by us.
    Refused(Reason, String),
    /// The stream was given up.
    Reset(u32, &'static str),
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Self::Cancelled
    }
}

/// What is known of a request while it is carried, also when it fails.
#[derive(Debug, Default)]
struct Progress {
    outcome: Outcome,
    answered: Option<StatusLine>,
    /// The role's own reason, from its answer.
    reason: Option<String>,
}

impl Passage {
    /// Forwards one request and everything that comes back. `no_body`: the request has none.
    pub(crate) async fn forward(&self, stream: RequestStream, head: &[u8], no_body: bool) {
        let began = Instant::now();
        let Ok(head) = RequestHead::from_bytes(head) else {
            warn!(component = COMPONENT, gateway = %self.gateway.name, "request head of the gateway not readable");
            return stream.reset(reset::PROTOCOL);
        };
        let roles = self.context.known.roles_of_thread(&self.worker.published);
        let plan = match plan(&head, &roles) {
            Ok(plan) => plan,
            Err(error) => {
                let is_head = head.method == "HEAD";
                self.context.counters.refusal(Reason::NotPublished);
                Box::pin(self.refuse(&stream, head.request, Reason::NotPublished, is_head)).await;
                let detail = runtime::telemetry::Chain(&error).to_string();
                info!(component = COMPONENT, request_id = %head.request, error = %detail, "request not forwarded");
                self.report(
                    &head,
                    began,
                    Reason::NotPublished.row().status,
                    Some(Reason::NotPublished.to_string()),
                    detail,
                );
                return;
            }
        };
        log::verbose_line(self.context.verbose, || {
            let external = log::external_address(&head.external, &self.gateway.host);
            log::switched(&external, &format!("{}{}", plan.role.base, plan.endpoint.path), plan.internal())
        });
        let step = runtime::step!(
            "connection-point.forward",
            head.request,
            parent = "gateway.route",
            endpoint = plan.endpoint.name,
            gateway = %self.gateway.name
        );
        let begun = self.context.counters.begin(&self.gateway, &plan, &self.rows);
        let mut progress = Progress::default();
        let outcome = tokio::select! {
            // The look at the stream is only for those who wait for something else.
            biased;
            outcome = self.carry(&stream, &head, &plan, (began, no_body), &mut progress) => outcome,
            () = stream.gone() => Err(Failure::Cancelled),
        };
        progress.outcome.elapsed = began.elapsed();
        progress.outcome.failed =
            outcome.is_err() || progress.answered.as_ref().is_some_and(|status| status.code.as_u16() >= 400);
        progress.outcome.status = match &outcome {
            Err(Failure::Refused(reason, _)) => {
                self.context.counters.refusal(*reason);
                step.record("reason", display(reason));
                reason.row().status
            }
            _ => progress.answered.as_ref().map_or(0, |status| status.code.as_u16()),
        };
        step.record("status", progress.outcome.status);
        begun.end(progress.outcome);
        self.tell(&head, &plan, began, &progress);
        if let Err(failure) = outcome {
            Box::pin(self.fail(stream, &head, &plan, began, failure)).await;
        }
    }

    async fn carry(
        &self,
        stream: &RequestStream,
        head: &RequestHead<'_>,
        plan: &Plan<'_>,
        (began, no_body): (Instant, bool),
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let limit = self.context.request_timeout;
        let mut body = BodySource { stream, plan, received: 0, limit, patience: Patience::default() };
        let mut held = BytesMut::new();
        let mut complete = no_body;
        let streams = plan.body_length.is_some_and(|length| length > HELD_BODY as u64);
        while !complete && !streams && held.len() <= HELD_BODY {
            match body.next().await? {
                Some(bytes) => held.extend_from_slice(&bytes),
                None => complete = true,
            }
            progress.outcome.request_bytes = body.received;
        }
        if complete {
            body.check_end()?;
            let request = whole(plan, &held);
            let until = if no_body { began } else { Instant::now() } + limit;
            let exchange = self.worker.roles.exchange(&plan.role, &request, plan.is_head(), until);
            let (mut answer, party) = exchange.await.map_err(|error| not_answered(&error))?;
            self.relay(stream, head, plan, &mut answer, progress).await?;
            self.worker.roles.keep(answer, &party);
            return Ok(());
        }
        let pumped = AtomicU64::new(0);
        // Rare, and far larger than the rest: on the heap, so that the tasks of most requests are small.
        let outcome = Box::pin(self.carry_streamed(head, body, held.freeze(), &pumped, progress)).await;
        progress.outcome.request_bytes = pumped.into_inner();
        outcome
    }

    /// Carries a request whose body is too large to be held.
    async fn carry_streamed(
        &self,
        head: &RequestHead<'_>,
        body: BodySource<'_>,
        held: Bytes,
        pumped: &AtomicU64,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let (stream, plan) = (body.stream, body.plan);
        let (mut sender, split) =
            self.worker.roles.open_split(&plan.role).await.map_err(|error| not_answered(&error))?;
        let mut sent = None;
        let answer = {
            let mut pump = pin!(body.pump(held, &mut sender, pumped));
            let mut answered = pin!(split.answer(plan.is_head()));
            let mut answer = loop {
                tokio::select! {
                    answer = &mut answered => {
                        break answer.map_err(|error| not_answered(&ExchangeError::Answer(error)))?;
                    }
                    outcome = &mut pump, if sent.is_none() => sent = Some(outcome?),
                    // The time of the answer begins when the role has the whole request, or takes no more of it.
                    () = tokio::time::sleep(self.context.request_timeout), if sent.is_some() => {
                        return Err(timed_out());
                    }
                }
            };
            {
                let mut relay = pin!(self.relay(stream, head, plan, &mut answer.answer, progress));
                loop {
                    tokio::select! {
                        outcome = &mut relay => break outcome?,
                        // A role may answer before it has read everything, and may read no further.
                        // Whatever stops the rest of the body, here or at the gateway: the answer counts.
                        outcome = &mut pump, if sent.is_none() => sent = Some(outcome.unwrap_or(Sent::Part)),
                    }
                }
            }
            answer
        };
        if sent == Some(Sent::Whole) {
            self.worker.roles.keep_split(answer, sender);
        }
        Ok(())
    }

    /// Passes the answer on, all of it.
    async fn relay<R: AsyncRead + Unpin>(
        &self,
        stream: &RequestStream,
        head: &RequestHead<'_>,
        plan: &Plan<'_>,
        answer: &mut Answer<R>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let limit = self.context.request_timeout;
        let nothing = answer.has_ended();
        let length = answer.body_length();
        // The usual answer is here with all of its body, and leaves in one piece.
        let whole = answer.whole_body();
        let passed = whole.as_ref().map_or(0, Bytes::len);
        let (answer_head, status) = answer::from_role(&answer.head, length, plan.is_head());
        let reason = answer.head.headers().find(|(name, _)| *name == reason::HEADER);
        progress.reason = reason.map(|(_, value)| value.to_owned());
        let sent = match whole {
            Some(body) => stream.answer_whole(&answer_head, body).map(|left| (left.is_none(), left)),
            None => stream.answer(&answer_head, nothing).map(|()| (nothing, None)),
        };
        let (is_complete, mut left) = match sent {
            Ok(sent) => sent,
            Err(NotAnswered::Gone(_)) => return Err(Failure::Cancelled),
            Err(error @ NotAnswered::HeadTooLarge) => {
                return Err(Failure::Refused(Reason::RoleAnswerMalformed, error.to_string()));
            }
        };
        progress.answered = Some(status);
        debug!(component = COMPONENT, request_id = %head.request, "answer of the role passes");
        progress.outcome.response_bytes = Some(if is_complete { passed as u64 } else { 0 });
        if is_complete {
            return Ok(());
        }
        let mut patience = std::mem::take(&mut answer.patience);
        let mut given = 0;
        loop {
            if given >= GIVEN_AT_ONCE {
                given = 0;
                tokio::task::yield_now().await;
            }
            let chunk = match left.take() {
                Some(body) => Some(body),
                None => patience
                    .within(limit, answer.chunk())
                    .await
                    .map_err(|_| {
                        Failure::Reset(reset::TIMEOUT, "the role fell silent in the middle of its answer")
                    })?
                    .map_err(|_| Failure::Reset(reset::ANSWER_CUT, "the role's answer broke off"))?,
            };
            let last = chunk.is_none() || answer.has_ended();
            let chunk = chunk.unwrap_or_default();
            let sent = progress.outcome.response_bytes.get_or_insert(0);
            *sent = sent.saturating_add(chunk.len() as u64);
            given += chunk.len();
            patience
                .within(limit, stream.send(chunk, last))
                .await
                .map_err(|_| Failure::Reset(reset::TIMEOUT, "the gateway took no more of the answer"))??;
            if last {
                answer.patience = patience;
                return Ok(());
            }
        }
    }

    /// The field's lines, and a report when the role refused or was slow.
    fn tell(&self, head: &RequestHead<'_>, plan: &Plan<'_>, began: Instant, progress: &Progress) {
        let Some(status) = &progress.answered else { return };
        let elapsed = milliseconds(progress.outcome.elapsed);
        let refused = status.code.as_u16() >= 400;
        if refused {
            log::line(&log::forwarding(head.request, plan.internal()));
            log::line(&log::received(head.request, plan.internal(), status));
        }
        let size = progress.outcome.response_bytes.unwrap_or(0);
        log_message(head.request, plan, status, size, elapsed);
        if refused || progress.outcome.elapsed >= SLOW {
            let detail = if refused { "refused by the role" } else { "slow" };
            self.report(head, began, status.code.as_u16(), progress.reason.clone(), detail.to_owned());
        }
    }

    async fn fail(
        &self,
        stream: RequestStream,
        head: &RequestHead<'_>,
        plan: &Plan<'_>,
        began: Instant,
        failure: Failure,
    ) {
        match failure {
            Failure::Cancelled => {
                debug!(component = COMPONENT, request_id = %head.request, "request given up by the gateway");
                stream.reset(reset::CANCELLED);
            }
            Failure::Refused(reason, detail) => {
                self.refuse(&stream, head.request, reason, plan.is_head()).await;
                let status = answer::refusal_status(reason);
                warn!(
                    component = COMPONENT, request_id = %head.request, role = %plan.role.id, %reason,
                    error = %detail, "request not forwarded"
                );
                log_message(head.request, plan, &status, 0, milliseconds(began.elapsed()));
                self.report(head, began, status.code.as_u16(), Some(reason.to_string()), detail);
            }
            Failure::Reset(code, detail) => {
                stream.reset(code);
                info!(component = COMPONENT, request_id = %head.request, error = detail, "request given up");
                // What the device sees of it: the gateway answers 502, or cuts what it has begun.
                self.report(head, began, 502, None, detail.to_owned());
            }
        }
    }

    async fn refuse(&self, stream: &RequestStream, request: RequestId, reason: Reason, is_head: bool) {
        let (head, body) = answer::refusal(reason, request, runtime::id::random());
        if stream.answer(&head, is_head).is_ok() && !is_head {
            // A line of text fits any fresh stream; a gateway that has gone does not read it.
            let _ = stream.send(body.into(), true).await;
        }
    }

    fn report(
        &self,
        head: &RequestHead<'_>,
        began: Instant,
        status: u16,
        reason: Option<String>,
        detail: String,
    ) {
        self.context.events.note(Occurrence {
            at: self.context.now(),
            request: head.request,
            method: &head.method,
            target: &head.target,
            status,
            reason,
            detail,
            elapsed_ms: milliseconds(began.elapsed()),
        });
    }
}

/// How much of a request's body the role has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// All of it.
    Whole,
    /// The role reads no further.
    Part,
}

/// The body of a request as it comes out of the tunnel, held against what was promised.
struct BodySource<'a> {
    stream: &'a RequestStream,
    plan: &'a Plan<'a>,
    received: u64,
    limit: Duration,
    patience: Patience,
}

impl BodySource<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let bytes = self
            .patience
            .within(self.limit, self.stream.chunk())
            .await
            .map_err(|_| Failure::Reset(reset::TIMEOUT, "the request's body came to a halt"))??;
        self.received = self.received.saturating_add(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        let most = self.plan.body_length.unwrap_or(self.plan.endpoint.max_body as u64);
        if self.received > most {
            return Err(Failure::Reset(
                reset::PROTOCOL,
                "the request's body is longer than stated or allowed",
            ));
        }
        Ok(bytes)
    }

    fn check_end(&self) -> Result<(), Failure> {
        if self.plan.body_length.is_some_and(|stated| stated != self.received) {
            return Err(Failure::Reset(reset::REQUEST_CUT, "the request's body is shorter than stated"));
        }
        Ok(())
    }

    /// Hands the body to the role: first what is held, then what comes.
    async fn pump(mut self, held: Bytes, to: &mut Sender, pumped: &AtomicU64) -> Result<Sent, Failure> {
        let framing = self.plan.body_length.map_or(Framing::Chunked, Framing::Length);
        self.plan.write_head(framing, to.head());
        pumped.store(self.received, Ordering::Relaxed);
        let mut next = (!held.is_empty()).then_some(held);
        loop {
            let part = match next.take() {
                Some(bytes) => Some(bytes),
                None => self.next().await?,
            };
            pumped.store(self.received, Ordering::Relaxed);
            let sending = async {
                match &part {
                    Some(part) => to.send(framing, part).await,
                    None => to.end(framing).await,
                }
            };
            if part.is_none() {
                self.check_end()?;
            }
            match timeout(self.limit, sending).await {
                Err(_) => return Err(timed_out()),
                // Its answer, or the end of its connection, says why.
                Ok(Err(_)) => return Ok(Sent::Part),
                Ok(Ok(())) if part.is_none() => return Ok(Sent::Whole),
                Ok(Ok(())) => {}
            }
        }
    }
}

/// A request with the whole of its body.
fn whole(plan: &Plan<'_>, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(plan.head_room() + body.len());
    let length = body.len() as u64;
    // A device that stated a length of nothing is understood as one that stated none.
    let framing = if body.is_empty() { Framing::None } else { Framing::Length(length) };
    plan.write_head(framing, &mut out);
    out.extend_from_slice(body);
    out
}

fn timed_out() -> Failure {
    Failure::Refused(Reason::RoleTimeout, "the role did not answer in time".to_owned())
}

fn not_answered(error: &ExchangeError) -> Failure {
    let reason = match error {
        ExchangeError::Late => return timed_out(),
        ExchangeError::Dial(_) | ExchangeError::Setup(_) | ExchangeError::Answer(AnswerError::Closed) => {
            Reason::RoleUnreachable
        }
        ExchangeError::Answer(_) => Reason::RoleAnswerMalformed,
    };
    Failure::Refused(reason, runtime::telemetry::Chain(error).to_string())
}

fn log_message(request: RequestId, plan: &Plan<'_>, status: &StatusLine, size: u64, ms: u64) {
    log::made_line(|out| {
        log::message(out, request, plan.internal(), plan.endpoint.name, status, size, ms);
    });
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A task that forwards one request on the thread of its tunnel. Ends when its stream is gone.
pub(crate) async fn run(passage: Arc<Passage>, stream: RequestStream, head: Bytes, no_body: bool) {
    passage.forward(stream, &head, no_body).await;
}
