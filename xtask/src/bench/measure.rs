//! What is measured, and in which order: slices of about a second that alternate between the gates, so that each slice has
//! its neighbours under the same noise. Medians are taken later, over the slices and over the ratios of neighbours.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::gates::{Gate, Kind, Place};
use super::load::{Clients, Shape, Streams, whole_request};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// Slices per gate and measure.
    pub(crate) pairs: usize,
    /// Length of a slice.
    pub(crate) slice: Duration,
    /// Idle connections, for their memory.
    pub(crate) idle: usize,
    /// Open streams, for their memory.
    pub(crate) open: u32,
}

/// One figure per gate and slice; no figure where a gate has none (the CPU of no gate at all).
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// In the order of the gates; within a gate in the order of the slices.
    pub(crate) values: Vec<Vec<f64>>,
}

const WARM_UP: Duration = Duration::from_millis(300);

pub(super) struct Table {
    pub(super) series: Vec<Series>,
}

impl Table {
    pub(super) fn new(gates: usize, rows: &[(String, &'static str)]) -> Self {
        let series = rows.iter().map(|(name, unit)| Series {
            name: name.clone(),
            unit,
            values: vec![Vec::new(); gates],
        });
        Self { series: series.collect() }
    }

    pub(super) fn add(&mut self, gate: usize, figures: &[Option<f64>]) {
        for (series, figure) in self.series.iter_mut().zip(figures) {
            series.values[gate].extend(figure);
        }
    }
}

/// Gate numbers for one round: every second round runs backwards, so that no gate is always first.
pub(super) fn order(gates: usize, round: usize) -> Vec<usize> {
    let forward = 0..gates;
    if round.is_multiple_of(2) { forward.collect() } else { forward.rev().collect() }
}

/// Requests of `content` bytes over `clients` connections.
pub(crate) async fn requests(
    gates: &[Gate],
    clients: usize,
    content: usize,
    label: &str,
    amount: Amount,
) -> Result<Vec<Series>> {
    let request = Rc::new(whole_request(content));
    let mut loads = Vec::new();
    for gate in gates {
        let mut load = Clients::connect(gate.address, clients).await?;
        load.run(&request, WARM_UP).await.with_context(|| gate.kind.name())?;
        loads.push(load);
    }
    let row = |name: &str| format!("{name}, {label}");
    let rows =
        [(row("CPU per request"), "µs"), (row("requests"), "/s"), (row("p50"), "µs"), (row("p99"), "µs")];
    let mut table = Table::new(gates.len(), &rows);
    for round in 0..amount.pairs {
        for number in order(gates.len(), round) {
            let gate = &gates[number];
            let before = gate.run_time()?;
            let seen = loads[number].run(&request, amount.slice).await.with_context(|| gate.kind.name())?;
            let used = gate.run_time()? - before;
            let mut times = seen.times;
            times.sort_unstable();
            table.add(
                number,
                &[
                    cpu(gate, used, seen.count),
                    Some(ratio(seen.count, 1) / seen.elapsed.as_secs_f64()),
                    Some(micros(quantile(&times, 50))),
                    Some(micros(quantile(&times, 99))),
                ],
            );
        }
    }
    Ok(table.series)
}

/// CPU per line of many streams, counted while all of them run.
pub(crate) async fn streams(gates: &[Gate], amount: Amount, clock: Instant) -> Result<Vec<Series>> {
    let pace = Duration::from_millis(10);
    // One pace to begin, a tenth of a second on both sides of the slice.
    let margin = Duration::from_millis(100);
    let lines = (amount.slice + margin * 3).as_millis() / pace.as_millis();
    let shape = Shape { streams: 200, pace, lines: u64::try_from(lines)? };
    let mut table = Table::new(gates.len(), &[("CPU per chunk, 200 streams × 100/s".to_owned(), "µs")]);
    for round in 0..amount.pairs {
        for number in order(gates.len(), round) {
            let gate = &gates[number];
            let mut running = Streams::start(gate.address, shape, clock);
            running.begun().await.with_context(|| gate.kind.name())?;
            tokio::time::sleep(margin).await;
            let (lines, before) = (running.lines(), gate.run_time()?);
            tokio::time::sleep(amount.slice).await;
            let (lines, used) = (running.lines() - lines, gate.run_time()? - before);
            running.finish().await.with_context(|| gate.kind.name())?;
            table.add(number, &[cpu(gate, used, lines)]);
        }
    }
    Ok(table.series)
}

/// How late each line of a few streams arrives. Five times the slice: a hundredth of a short one is a handful of lines, and a
/// virtual machine that stands still for some milliseconds now and then falls into one gate's slices by chance.
pub(crate) async fn lags(gates: &[Gate], amount: Amount, clock: Instant) -> Result<Vec<Series>> {
    let pace = Duration::from_millis(20);
    let lines = u64::try_from(amount.slice.as_millis() * 5 / pace.as_millis())?.max(2);
    let shape = Shape { streams: 10, pace, lines };
    let label = "10 streams × 50/s";
    let rows = [(format!("line lag p50, {label}"), "µs"), (format!("line lag p99, {label}"), "µs")];
    let mut table = Table::new(gates.len(), &rows);
    for round in 0..amount.pairs {
        for number in order(gates.len(), round) {
            let gate = &gates[number];
            let running = Streams::start(gate.address, shape, clock);
            let mut times = running.finish().await.with_context(|| gate.kind.name())?.times;
            times.sort_unstable();
            table.add(number, &[Some(micros(quantile(&times, 50))), Some(micros(quantile(&times, 99)))]);
        }
    }
    Ok(table.series)
}

/// Memory of freshly started gates: at rest, per idle connection, per open stream; and how long they took to answer.
pub(crate) async fn memory(
    kinds: &[Kind],
    place: &Place,
    amount: Amount,
    clock: Instant,
) -> Result<Vec<Series>> {
    let rows = [
        ("resident at rest".to_owned(), "MiB"),
        (format!("per idle connection, {}", amount.idle), "KiB"),
        (format!("per open stream, {}", amount.open), "KiB"),
        ("start to first answer".to_owned(), "ms"),
    ];
    let mut table = Table::new(kinds.len(), &rows);
    for (number, kind) in kinds.iter().enumerate().filter(|(_, kind)| **kind != Kind::Direct) {
        let gate = Gate::start(*kind, place).await?;
        let ready = gate.ready_after.as_secs_f64() * 1e3;
        let rest = gate.resident()?;
        let idle = per_idle(&gate, amount.idle).await.with_context(|| kind.name())?;
        drop(gate);
        let gate = Gate::start(*kind, place).await?;
        let open = per_stream(&gate, amount.open, clock).await.with_context(|| kind.name())?;
        table.add(number, &[Some(ratio(rest, 1 << 20)), Some(idle), Some(open), Some(ready)]);
    }
    Ok(table.series)
}

/// KiB per connection that has had one answer and now waits.
async fn per_idle(gate: &Gate, count: usize) -> Result<f64> {
    let request = whole_request(100);
    // A few first, so that what is made once is not counted.
    let mut warm = Clients::connect(gate.address, 32).await?;
    warm.once(&request).await?;
    let before = gate.resident()?;
    let mut idle = Clients::connect(gate.address, count).await?;
    idle.once(&request).await?;
    let grown = gate.resident()?.saturating_sub(before);
    Ok(ratio(grown, 1024) / ratio(count as u64, 1))
}

/// KiB per stream in its midst.
async fn per_stream(gate: &Gate, streams: u32, clock: Instant) -> Result<f64> {
    let shape = |streams, lines| Shape { streams, pace: Duration::from_secs(1), lines };
    Streams::start(gate.address, shape(32, 2), clock).finish().await?;
    let before = gate.resident()?;
    let mut open = Streams::start(gate.address, shape(streams, 60), clock);
    open.begun().await?;
    // One more line each.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let grown = gate.resident()?.saturating_sub(before);
    Ok(ratio(grown, 1024) / f64::from(streams))
}

pub(super) fn cpu(gate: &Gate, used: u64, count: u64) -> Option<f64> {
    (gate.kind != Kind::Direct && count > 0).then(|| micros(used) / ratio(count, 1))
}

fn micros(nanos: u64) -> f64 {
    ratio(nanos, 1000)
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a run stay far below 2^53")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// The value below which so many percent of the sorted values lie.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}
