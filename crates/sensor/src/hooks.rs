//! Where the kernel half is attached: each place with the kernel that brought it, what hangs on it, and what stands in
//! where it is missing.

use std::sync::{Mutex, PoisonError};

use libbpf_rs::btf::{Btf, BtfType, ReferencesType as _, types};
use libbpf_rs::{Link, Object, ObjectBuilder, OpenObject, PrintLevel};

use crate::calls::Instead;
use crate::ebpf::{SensorError, not_permitted};
use crate::health::Hook;

/// One place.
pub(crate) struct Place {
    /// The program of the kernel half.
    program: &'static str,
    /// The hook as a person knows it.
    name: &'static str,
    /// First kernel that has it.
    since: &'static str,
    /// What it is for.
    serves: &'static str,
    /// Nothing works without it.
    needed: bool,
    /// What stands in, and what that leaves out.
    instead: Option<(Instead, &'static str)>,
    /// The name that the tracepoint had in earlier kernels, with the same first argument.
    formerly: Option<&'static str>,
    /// A type that the kernel must know, and what to say if it does not.
    wants: Option<(&'static str, &'static str)>,
}

impl Place {
    /// One that is only good to have, without anything special about it.
    const fn optional(program: &'static str, name: &'static str, since: &'static str, serves: &'static str) -> Self {
        Self { program, name, since, serves, needed: false, instead: None, formerly: None, wants: None }
    }

    const fn needed(program: &'static str, name: &'static str, serves: &'static str) -> Self {
        Self { needed: true, ..Self::optional(program, name, "5.5", serves) }
    }

    fn tracepoint(&self) -> &'static str {
        self.name.strip_prefix("tp_btf/").unwrap_or(self.name)
    }

    /// The name under which this kernel has it.
    fn here(&self, btf: &Btf<'_>) -> Option<&'static str> {
        let names = [Some(self.tracepoint()), self.formerly];
        names.into_iter().flatten().find(|name| has_tracepoint(btf, name))
    }
}

/// Every place. The kernel half as a whole needs 5.17, which has `bpf_loop`.
const PLACES: &[Place] = &[
    Place::needed("on_sys_exit", "tp_btf/sys_exit", "files, sockets, privileged calls"),
    Place::needed("on_fork", "tp_btf/task_newtask", "process tree"),
    Place::needed("on_exec", "tp_btf/sched_process_exec", "executions"),
    Place::needed("on_exit", "tp_btf/sched_process_exit", "ends of processes"),
    Place::optional("on_signal", "tp_btf/signal_generate", "5.5", "whom a signal went to"),
    Place {
        formerly: Some("io_uring_submit_sqe"),
        wants: IO_CMD_DATA,
        ..Place::optional("on_ring_submit", "tp_btf/io_uring_submit_req", "6.3", "names in calls through io_uring")
    },
    Place {
        wants: IO_CMD_DATA,
        ..Place::optional("on_ring_complete", "tp_btf/io_uring_complete", "5.5", "calls through io_uring")
    },
    Place {
        instead: Some((Instead::Sends, "the calls that send stand in; datagrams are not counted")),
        ..Place::optional(
            "on_send",
            "tp_btf/sock_send_length",
            "6.3",
            "datagrams, first bytes of connections, DNS queries",
        )
    },
    Place {
        instead: Some((Instead::Receives, "the calls that receive stand in; datagrams are not counted")),
        ..Place::optional("on_receive", "tp_btf/sock_recv_length", "6.3", "DNS answers, names of addresses")
    },
    Place::optional("on_state", "tp_btf/inet_sock_set_state", "5.5", "ends of connections and of sockets that listen"),
];

const IO_CMD_DATA: Option<(&str, &str)> =
    Some(("io_cmd_data", "this kernel describes requests of io_uring otherwise: Linux 6.0 or later is needed"));

/// The places of this kernel before anything is loaded: those that it does not have, and those in `without`, which are
/// treated as if it had not, are a problem already.
///
/// # Errors
/// If one is missing that everything hangs on.
pub(crate) fn look(btf: &Btf<'_>, without: &[&str]) -> Result<Vec<Hook>, SensorError> {
    let mut hooks = Vec::with_capacity(PLACES.len());
    for place in PLACES {
        let strange = place.wants.filter(|(name, _)| btf.type_by_name::<BtfType<'_>>(name).is_none());
        let why = if without.contains(&place.name) {
            Some("not to be used".to_owned())
        } else if let Some((_, why)) = strange {
            Some(why.to_owned())
        } else {
            let missing =
                || format!("this kernel has no tracepoint {}; it came with {}", place.tracepoint(), place.since);
            place.here(btf).is_none().then(missing)
        };
        if let Some(why) = why.as_ref().filter(|_| place.needed) {
            return Err(SensorError::Load(why.clone()));
        }
        let instead = place.instead.map(|(_, what)| what);
        hooks.push(Hook { name: place.name, serves: place.serves, problem: why, instead });
    }
    Ok(hooks)
}

/// What the kernel says of its own types.
///
/// # Errors
/// If it says nothing, or not to us.
pub(crate) fn types_of_the_kernel() -> Result<Btf<'static>, SensorError> {
    Btf::from_vmlinux()
        .map_err(|_| if rustix::process::geteuid().is_root() { SensorError::NoBtf } else { not_permitted("not root") })
}

fn has_tracepoint(btf: &Btf<'_>, name: &str) -> bool {
    btf.type_by_name::<BtfType<'_>>(&format!("btf_trace_{name}")).is_some()
}

/// Number of arguments that a tracepoint gives to its programs.
pub(crate) fn arguments(btf: &Btf<'_>, tracepoint: &str) -> Option<usize> {
    let named: types::Typedef<'_> = btf.type_by_name(&format!("btf_trace_{tracepoint}"))?;
    let pointer = types::Ptr::try_from(named.referenced_type()).ok()?;
    let function = types::FuncProto::try_from(pointer.referenced_type()).ok()?;
    // The first is libbpf's own.
    function.len().checked_sub(1)
}

/// What stands in for hooks that are missing.
pub(crate) fn stand_ins(hooks: &[Hook]) -> Vec<Instead> {
    let missing = PLACES.iter().zip(hooks).filter(|(_, hook)| hook.problem.is_some());
    missing.filter_map(|(place, _)| place.instead.map(|(instead, _)| instead)).collect()
}

/// Loads `bytes`; `prepare` fills its maps for the hooks that are there. If the kernel refuses a program that is only
/// good to have, the rest is loaded without it.
pub(crate) fn load(
    bytes: &[u8],
    btf: &Btf<'_>,
    hooks: &mut [Hook],
    prepare: impl Fn(&mut OpenObject, &[Hook]) -> Result<(), SensorError>,
) -> Result<Object, SensorError> {
    loop {
        let mut open = ObjectBuilder::default().open_memory(bytes).map_err(failed)?;
        for (place, hook) in PLACES.iter().zip(&*hooks) {
            let Some(mut prog) = open.progs_mut().find(|prog| prog.name() == place.program) else { continue };
            if hook.problem.is_some() {
                prog.set_autoload(false);
            } else if let Some(name) = place.here(btf).filter(|name| *name != place.tracepoint()) {
                prog.set_attach_target(0, Some(name.to_owned())).map_err(failed)?;
            }
        }
        prepare(&mut open, hooks)?;
        REFUSED.lock().unwrap_or_else(PoisonError::into_inner).take();
        let error = match open.load() {
            Ok(object) => return Ok(object),
            Err(error) => error,
        };
        let refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner).take();
        let culprit = PLACES
            .iter()
            .zip(&mut *hooks)
            .find(|(place, hook)| !place.needed && hook.problem.is_none() && refused.as_deref() == Some(place.program));
        match culprit {
            Some((place, hook)) => {
                tracing::warn!("the kernel refuses the program {}: {error:#}", place.program);
                hook.problem = Some("this kernel refuses the program; the log says why".to_owned());
            }
            None if is_locked_down() => return Err(SensorError::LockedDown),
            None if error.kind() == libbpf_rs::ErrorKind::PermissionDenied => {
                return Err(not_permitted(&error.to_string()));
            }
            None => return Err(failed(error)),
        }
    }
}

pub(crate) fn attach(object: &Object, hooks: &mut [Hook]) -> Result<Vec<Link>, SensorError> {
    let mut links = Vec::new();
    for (place, hook) in PLACES.iter().zip(hooks) {
        if hook.problem.is_some() {
            continue;
        }
        let Some(prog) = object.progs_mut().find(|prog| prog.name() == place.program) else {
            return Err(SensorError::Load(format!("program {} is missing in the object", place.program)));
        };
        match prog.attach_trace() {
            Ok(link) => links.push(link),
            Err(error) if place.needed => {
                return Err(SensorError::Load(format!("cannot attach {}: {error}", place.name)));
            }
            Err(error) => hook.problem = Some(error.to_string()),
        }
    }
    Ok(links)
}

fn failed(error: libbpf_rs::Error) -> SensorError {
    SensorError::Load(format!("{error:#}"))
}

/// Whether the kernel keeps its memory from everybody. Then the verifier knows no helper that reads it.
pub(crate) fn is_locked_down() -> bool {
    let state = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    state.contains("[confidentiality]")
}

/// The program that libbpf said last was refused: it tells that to its log alone.
static REFUSED: Mutex<Option<String>> = Mutex::new(None);

/// libbpf's own messages go to our log.
pub(crate) fn quiet_libbpf() {
    fn log(level: PrintLevel, message: String) {
        let message = message.trim_end();
        if let Some(program) = refused(message) {
            *REFUSED.lock().unwrap_or_else(PoisonError::into_inner) = Some(program.to_owned());
        }
        match level {
            PrintLevel::Warn => tracing::warn!(target: "libbpf", "{message}"),
            PrintLevel::Info => tracing::debug!(target: "libbpf", "{message}"),
            PrintLevel::Debug => tracing::trace!(target: "libbpf", "{message}"),
        }
    }
    libbpf_rs::set_print(Some((PrintLevel::Debug, log)));
}

/// `libbpf: prog 'NAME': failed to load: -22`.
fn refused(message: &str) -> Option<&str> {
    let (name, what) = message.split_once("prog '")?.1.split_once('\'')?;
    what.contains("failed to load").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::OBJECT;

    #[test]
    fn the_refused_program_is_read_from_libbpfs_words() {
        assert_eq!(refused("libbpf: prog 'on_state': failed to load: -22"), Some("on_state"));
        assert_eq!(refused("libbpf: prog 'on_state': BPF program load failed: -22"), None);
        assert_eq!(refused("libbpf: failed to load object"), None);
    }

    /// The kernel half with a program whose first instruction is none.
    fn broken(program: &str) -> Vec<u8> {
        let open = ObjectBuilder::default().open_memory(OBJECT).unwrap();
        let program = open.progs().find(|prog| prog.name() == program).unwrap();
        let code: Vec<u8> = program.insns().iter().flat_map(|insn| [insn.code, 0]).take(256).collect();
        let mut bytes = OBJECT.to_vec();
        // Of each instruction of eight bytes the first says what it does.
        let at = (0..bytes.len() - 8 * code.len() / 2)
            .step_by(8)
            .find(|at| code.chunks(2).enumerate().all(|(n, insn)| bytes[at + 8 * n] == insn[0]))
            .unwrap();
        bytes[at] = 0xff;
        bytes
    }

    #[test]
    fn a_program_that_is_refused_leaves_the_rest() {
        quiet_libbpf();
        let btf = match types_of_the_kernel() {
            Ok(btf) if rustix::process::geteuid().is_root() => btf,
            _ => return eprintln!("skipped: not root, or a kernel without types"),
        };
        let mut hooks = look(&btf, &[]).unwrap();
        let prepare = |_: &mut OpenObject, _: &[Hook]| Ok(());
        if let Err(error) = load(OBJECT, &btf, &mut hooks, prepare) {
            assert!(std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_none(), "{error}");
            return eprintln!("skipped: {error}");
        }
        assert!(load(&broken("on_state"), &btf, &mut hooks, prepare).is_ok());
        let missing: Vec<&Hook> = hooks.iter().filter(|hook| hook.problem.is_some()).collect();
        assert!(missing.iter().any(|hook| hook.name == "tp_btf/inet_sock_set_state"), "{missing:?}");
        let error = load(&broken("on_exec"), &btf, &mut hooks, prepare).err().unwrap();
        assert!(matches!(error, SensorError::Load(_)), "nothing works without executions: {error}");
    }

    #[test]
    fn a_place_that_can_be_missing_says_what_is_lost() {
        for place in PLACES {
            assert!(!place.serves.is_empty() && !place.since.is_empty() && (!place.needed || place.instead.is_none()));
        }
    }
}
