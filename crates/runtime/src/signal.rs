//! What the operating system, or the lab, asks of a process: stop, or read your files again.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use crate::drain::Drain;

/// Resolves when the process is asked to stop: SIGTERM or SIGINT, elsewhere Ctrl-C.
///
/// From the first call on these signals no longer end the process by themselves.
pub async fn wait_for_stop_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Listens for the wish to read certificates and settings again: SIGHUP. Elsewhere it never comes.
pub fn reload_signal() -> io::Result<ReloadSignal> {
    Ok(ReloadSignal {
        #[cfg(unix)]
        hang_up: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
    })
}

/// The wishes to reload, one after the other. Those that come while one is carried out count as one.
#[derive(Debug)]
pub struct ReloadSignal {
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl ReloadSignal {
    /// Resolves at the next wish. Safe to drop and ask again.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.hang_up.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Begins `drain` with `deadline` when standard input ends. The lab holds the other end of its children's
/// input, so they stop with it however it ends, killed included.
///
/// Reads on a thread of its own, which does not keep the process alive; whatever is read is thrown away.
pub fn end_with_standard_input(drain: &Drain, deadline: Duration) -> io::Result<()> {
    end_with(io::stdin(), drain, deadline)
}

fn end_with(mut input: impl Read + Send + 'static, drain: &Drain, deadline: Duration) -> io::Result<()> {
    let drain = drain.clone();
    thread::Builder::new().name("stdin".into()).spawn(move || {
        // A read error ends the wait as an end does: either way nobody is there any more.
        let _ = io::copy(&mut input, &mut io::sink());
        drain.begin(deadline);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::drain::Finished;

    #[tokio::test]
    async fn the_drain_begins_when_the_input_ends_and_not_before() {
        let (input, mut output) = io::pipe().unwrap();
        let drain = Drain::new();
        end_with(input, &drain, Duration::from_secs(5)).unwrap();
        output.write_all(b"still here\n").unwrap();
        assert!(!drain.has_started());
        drop(output);
        assert_eq!(drain.finish().await, Finished::Clean);
    }
    /// Sends `name` to this process, as an operator or service manager would.
    #[cfg(unix)]
    fn send(name: &str) {
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("kill -{name} {}", std::process::id())])
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn hang_up_asks_for_a_reload_each_time() {
        let mut reload = reload_signal().unwrap();
        for _ in 0..2 {
            send("HUP");
            reload.next().await;
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn terminate_and_interrupt_ask_to_stop() {
        for name in ["TERM", "INT"] {
            let mut stop = Box::pin(wait_for_stop_signal());
            // The first poll sets up the handlers; before it the signal would end the test.
            assert!(poll_once(stop.as_mut()).await.is_none());
            send(name);
            stop.await.unwrap();
        }
    }

    #[cfg(unix)]
    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
