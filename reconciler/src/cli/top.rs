//! `keel top`.

use std::io::IsTerminal as _;
use std::time::Duration;

use manifests::id::Address;
use manifests::kind::Kind;
use runtime::runtime::Usage;

use super::engine::{self, Works};
use super::invocation::Invocation;
use crate::error::{CliError, Exit};
use crate::view::text;

/// Show what instances use.
///
/// On a terminal the table is renewed until Ctrl-C; elsewhere it is printed once.
#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// Only these instances.
    instances: Vec<String>,
    /// Print one table, also on a terminal.
    #[arg(long)]
    once: bool,
    /// Over how long processor time is measured.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = super::global::duration)]
    interval: Duration,
}

impl Top {
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Exit, CliError> {
        let opened = engine::open(invocation)?;
        let engine = opened.runtime.as_ref();
        let renew = !self.once && std::io::stdout().is_terminal();
        let mut before = self.sample(invocation, engine)?;
        loop {
            let began = invocation.now();
            invocation.pause(self.interval);
            let now = self.sample(invocation, engine)?;
            let milliseconds = invocation.milliseconds_since(began);
            if renew {
                invocation.print_bytes(b"\x1b[H\x1b[2J")?;
            }
            invocation.print(&page(&before, &now, milliseconds))?;
            if !renew || invocation.cancelled() {
                return Ok(Exit::Done);
            }
            before = now;
        }
    }

    /// What the running ones of the instances use now.
    fn sample(
        &self,
        invocation: &Invocation,
        engine: &dyn Works,
    ) -> Result<Vec<(Address, Usage)>, CliError> {
        if !self.instances.is_empty() {
            return self
                .instances
                .iter()
                .map(|name| {
                    let address = invocation.instance(name)?;
                    let usage = engine.usage(&address)?;
                    Ok((address, usage))
                })
                .collect();
        }
        let running = engine.observe()?.items.into_iter().filter(|item| {
            item.address.kind == Kind::Instance
                && item.mark.is_some()
                && item.status.get("state").and_then(|state| state.as_str()) != Some("Stopped")
        });
        Ok(running
            // One that stops between the two looks is left out.
            .filter_map(|item| Some((engine.usage(&item.address).ok()?, item.address)))
            .map(|(usage, address)| (address, usage))
            .collect())
    }
}

/// The table, the busiest first.
fn page(before: &[(Address, Usage)], now: &[(Address, Usage)], milliseconds: u64) -> String {
    let mut rows: Vec<(u64, Vec<String>)> = now
        .iter()
        .map(|(address, usage)| {
            let then = before.iter().find(|(other, _)| other == address);
            let share = then.and_then(|(_, then)| tenths(then, usage, milliseconds));
            let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
            let row = vec![
                text::visible(&address.to_string()),
                or_dash(share.map(|share| format!("{}.{} %", share / 10, share % 10))),
                or_dash(usage.memory.map(text::bytes)),
                or_dash(usage.processes.map(|count| count.to_string())),
            ];
            (share.unwrap_or(0), row)
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    text::table(&["INSTANCE", "CPU", "MEMORY", "PROCESSES"], &rows)
}

/// The share of one processor in tenths of a percent.
fn tenths(before: &Usage, now: &Usage, milliseconds: u64) -> Option<u64> {
    let used = now
        .cpu_microseconds?
        .checked_sub(before.cpu_microseconds?)?;
    used.checked_div(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_comes_first() {
        let usage = |cpu, memory| Usage {
            memory: Some(memory),
            cpu_microseconds: Some(cpu),
            processes: Some(3),
        };
        let web = Address::new(Kind::Instance, "web");
        let db = Address::new(Kind::Instance, "db");
        let before = [(web.clone(), usage(0, 0))];
        let now = [(db, usage(5, 1024)), (web, usage(505_500, 536_870_912))];
        insta::assert_snapshot!(page(&before, &now, 1000), @r"
        INSTANCE       CPU      MEMORY    PROCESSES
        instance/web   50.5 %   512 MiB   3
        instance/db    -        1 KiB     3
        ");
    }
}
