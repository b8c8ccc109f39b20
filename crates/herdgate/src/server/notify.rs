//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, and that the program is alive. Does nothing
//! where nobody asked to be told.

use super::core::Pulse;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;

/// What ending takes beside the time that requests have.
const PATIENCE: Duration = Duration::from_secs(15);

/// Requests are served; `status` says how, for people.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another process is the gate from now on: what this one says is no longer heard.
pub(super) fn main_process_is(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

/// Settings are being read; [`ready`] must follow. The time is what tells one reload from the next (`Type=notify-reload` of systemd 253).
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("no monotonic clock: {error}"),
    }
}

/// The end has begun and may take as long as `grace` and a little more, whatever the manager's own patience is.
pub(super) fn stopping(status: &str, grace: Duration) {
    let patience = (grace + PATIENCE).as_micros();
    let patience = NotifyState::ExtendTimeoutUsec(u32::try_from(patience).unwrap_or(u32::MAX));
    tell(&[NotifyState::Stopping, patience, NotifyState::Status(status)]);
}

/// Gives signs of life for ever, where somebody waits for them (`sd_watchdog_enabled(3)`), as long as every core does.
pub(super) async fn show_life(pulses: Vec<Arc<Pulse>>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return std::future::pending().await;
    };
    let mut turns = tokio::time::interval(limit / 2);
    let mut before: Vec<_> = pulses.iter().map(|_| None).collect();
    loop {
        turns.tick().await;
        let now: Vec<_> = pulses.iter().map(|pulse| pulse.beats()).collect();
        let stands = now.iter().zip(&before).position(|(now, before)| now.is_some() && now == before);
        match stands {
            None => tell(&[NotifyState::Watchdog]),
            Some(core) => {
                tracing::error!("core {core} has stood still for {:.1} s", limit.as_secs_f32() / 2.0)
            }
        }
        before = now;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager cannot be told: {error}");
    }
}
