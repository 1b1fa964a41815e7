//! What init says, made safe: ids must match, numbers are clamped, texts cut.

use std::collections::{BTreeMap, HashSet};

use fleet::id::{JobId, TerminalId};
use init_protocol::terminal::TerminalState;
use init_protocol::{COMMAND_SHOWN, CONTROL_PORT, JobState, JobStatus, ListeningPort, Process};

use super::error::InitError;

/// Last millisecond of the year 9999: any time up to it can be shown.
const MAX_MS: u64 = 253_402_300_799_999;
/// More memory than machines have.
const MAX_BYTES: u64 = 1 << 50;
/// Longest name of a user.
const MAX_USER: usize = 64;

/// A job that must be `id`.
pub(super) fn job(state: JobState, id: &str) -> Result<JobState, InitError> {
    if state.job != id {
        return Err(InitError::Protocol("another job"));
    }
    let running = state.status == JobStatus::Running;
    Ok(JobState {
        job: state.job,
        command: cut(state.command, COMMAND_SHOWN),
        status: state.status,
        exit_code: state
            .exit_code
            .filter(|_| !running)
            .map(|code| code.clamp(-1, 255)),
        started_at_ms: state.started_at_ms.min(MAX_MS),
        ended_at_ms: state
            .ended_at_ms
            .filter(|_| !running)
            .map(|ms| ms.min(MAX_MS)),
        duration_ms: state
            .duration_ms
            .filter(|_| !running)
            .map(|ms| ms.min(MAX_MS)),
    })
}

/// Jobs with ids of ours, each once.
pub(super) fn jobs(states: Vec<JobState>) -> Result<Vec<JobState>, InitError> {
    let mut seen = HashSet::new();
    let checked = |state: JobState| {
        let id = state.job.clone();
        if id.parse::<JobId>().is_err() || !seen.insert(id.clone()) {
            return Err(InitError::Protocol("not a list of jobs"));
        }
        job(state, &id)
    };
    states.into_iter().map(checked).collect()
}

/// A terminal that must be `id`.
pub(super) fn terminal(state: TerminalState, id: &str) -> Result<TerminalState, InitError> {
    if state.terminal != id {
        return Err(InitError::Protocol("another terminal"));
    }
    Ok(TerminalState {
        terminal: state.terminal,
        command: cut(state.command, COMMAND_SHOWN),
        size: state.size.clamped(),
        opened_at_ms: state.opened_at_ms.min(MAX_MS),
        exit_code: state.exit_code.map(|code| code.clamp(-1, 255)),
        output: state.output,
    })
}

/// Terminals with ids of ours, each once.
pub(super) fn terminals(states: Vec<TerminalState>) -> Result<Vec<TerminalState>, InitError> {
    let mut seen = HashSet::new();
    let checked = |state: TerminalState| {
        let id = state.terminal.clone();
        if id.parse::<TerminalId>().is_err() || !seen.insert(id.clone()) {
            return Err(InitError::Protocol("not a list of terminals"));
        }
        terminal(state, &id)
    };
    states.into_iter().map(checked).collect()
}

/// By number, each once.
pub(super) fn ports(ports: Vec<ListeningPort>) -> Result<Vec<ListeningPort>, InitError> {
    let mut by_number = BTreeMap::new();
    for entry in ports {
        if entry.port == 0 || entry.port == CONTROL_PORT {
            return Err(InitError::Protocol("not a port"));
        }
        by_number.insert(entry.port, entry);
    }
    Ok(by_number.into_values().collect())
}

pub(super) fn processes(processes: Vec<Process>) -> Vec<Process> {
    let checked = |process: Process| Process {
        pid: process.pid,
        parent: process.parent,
        user: cut(process.user, MAX_USER),
        command: cut(process.command, COMMAND_SHOWN),
        cpu_ms: process.cpu_ms.min(MAX_MS),
        resident_bytes: process.resident_bytes.min(MAX_BYTES),
    };
    processes.into_iter().map(checked).collect()
}

fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(job: &str) -> JobState {
        JobState {
            job: job.to_owned(),
            command: "ü".repeat(COMMAND_SHOWN),
            status: JobStatus::Failed,
            exit_code: Some(i32::MIN),
            started_at_ms: u64::MAX,
            ended_at_ms: Some(u64::MAX),
            duration_ms: Some(u64::MAX),
        }
    }

    #[test]
    fn numbers_are_clamped_and_texts_cut() {
        let checked = job(state("a"), "a").unwrap();
        assert_eq!(checked.exit_code, Some(-1));
        assert_eq!(checked.command.len(), COMMAND_SHOWN);
        let shown = time::OffsetDateTime::from_unix_timestamp_nanos(
            i128::from(checked.started_at_ms) * 1_000_000,
        );
        assert!(shown.is_ok());
    }

    #[test]
    fn a_running_job_has_no_end() {
        let odd = JobState {
            status: JobStatus::Running,
            ..state("a")
        };
        let checked = job(odd, "a").unwrap();
        assert_eq!(
            (checked.exit_code, checked.ended_at_ms, checked.duration_ms),
            (None, None, None)
        );
    }

    #[test]
    fn jobs_are_the_ones_asked_for() {
        assert!(job(state("a"), "b").is_err());
        let id = JobId::mint();
        assert!(jobs(vec![state(id.as_str())]).is_ok());
        assert!(jobs(vec![state(id.as_str()), state(id.as_str())]).is_err());
        assert!(jobs(vec![state("../../etc")]).is_err());
    }

    #[test]
    fn ports_are_ports_and_once() {
        let port = |port| ListeningPort {
            port,
            loopback_only: false,
        };
        assert_eq!(
            ports(vec![port(9), port(3), port(9)]).unwrap(),
            [port(3), port(9)]
        );
        assert!(ports(vec![port(0)]).is_err());
        assert!(ports(vec![port(CONTROL_PORT)]).is_err());
    }
}
