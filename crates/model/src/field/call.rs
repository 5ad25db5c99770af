//! Parameters of calls whose arguments are told as they are: by kind and name, which argument it is and how it reads.

use super::event::{Param, decimal, user};
use crate::event::{Event, EventKind};
use crate::flags::{self, Names};

/// Where a parameter comes from, and how it is shown.
#[derive(Clone, Copy)]
enum Source {
    /// Argument by number, from 0: a number.
    Number(u8),
    /// The lower half of an argument, with its sign: descriptors, process numbers.
    Signed(u8),
    /// A user.
    User(u8),
    /// An argument with a name for each value.
    One(u8, Names),
    /// An argument of bits with names.
    Bits(u8, Names),
    /// Texts that the record carries.
    Text,
    Text2,
    Text3,
    /// What the call returned: a descriptor or an error.
    Result,
    /// Parts of an argument: which quota, and what is done with it.
    QuotaCommand,
    QuotaType,
}

/// By kind and name.
static PARAMS: &[(EventKind, &[(&str, Source)])] = {
    use EventKind as K;
    use Source::{Bits, Number, One, QuotaCommand, QuotaType, Result, Signed, Text, Text2, Text3, User};
    &[
        (K::Kill, &[("pid", Signed(0)), ("sig", One(1, flags::SIGNAL))]),
        (K::Tkill, &[("tid", Signed(0)), ("sig", One(1, flags::SIGNAL))]),
        (K::Tgkill, &[("pid", Signed(0)), ("tid", Signed(1)), ("sig", One(2, flags::SIGNAL))]),
        (K::PidfdSendSignal, &[("pid_fd", Signed(0)), ("sig", One(1, flags::SIGNAL)), ("flags", Number(3))]),
        (K::PidfdOpen, &[("fd", Result), ("pid", Signed(0)), ("flags", Number(1))]),
        (K::PidfdGetfd, &[("fd", Result), ("pid_fd", Signed(0)), ("target_fd", Signed(1)), ("flags", Number(2))]),
        (K::ProcessVmReadv, &[("pid", Signed(0))]),
        (K::ProcessVmWritev, &[("pid", Signed(0))]),
        (K::Keyctl, &[("option", One(0, flags::KEYCTL)), ("key", Signed(1))]),
        (K::AddKey, &[("type", Text), ("name", Text2)]),
        (K::RequestKey, &[("type", Text), ("name", Text2)]),
        (K::KexecLoad, &[("entries", Number(1)), ("flags", Number(3))]),
        (K::KexecFileLoad, &[("fd", Signed(0)), ("uargs", Text), ("flags", Number(4))]),
        (K::Quotactl, &[("cmd", QuotaCommand), ("type", QuotaType), ("id", Signed(2)), ("special", Text)]),
        (K::Reboot, &[("cmd", One(2, flags::REBOOT))]),
        (K::Syslog, &[("option", One(0, flags::SYSLOG))]),
        (K::ClockSettime, &[("id", One(0, flags::CLOCK))]),
        (K::Ioperm, &[("offset", Number(0)), ("length", Number(1)), ("flags", Signed(2))]),
        (K::Iopl, &[("level", Signed(0))]),
        (K::PerfEventOpen, &[("fd", Result), ("pid", Signed(1)), ("cpu", Signed(2)), ("flags", Number(4))]),
        (K::LandlockRestrictSelf, &[("fd", Signed(0)), ("flags", Number(1))]),
        (K::Seccomp, &[("op", One(0, flags::SECCOMP)), ("flags", Bits(1, flags::SECCOMP_FLAGS))]),
        (K::Prctl, &[("option", One(0, flags::PRCTL)), ("arg2_str", Text), ("arg2_int", Number(1))]),
        (K::Personality, &[("persona", Bits(0, flags::PERSONALITY))]),
        (K::Setfsuid, &[("uid", User(0))]),
        (K::Setgroups, &[("length", Signed(0))]),
        (K::Fsopen, &[("fd", Result), ("name", Text), ("flags", Number(1))]),
        (
            K::Fsconfig,
            &[
                ("fd", Signed(0)),
                ("cmd", One(1, flags::FSCONFIG)),
                ("key", Text),
                ("value_charbuf", Text2),
                ("aux", Signed(4)),
                ("type", Text3),
            ],
        ),
        (
            K::Fsmount,
            &[
                ("fd", Result),
                ("fs_fd", Signed(0)),
                ("flags", Number(1)),
                ("attr_flags", Bits(2, flags::MOUNT_ATTR)),
                ("type", Text3),
                ("source", Text2),
            ],
        ),
        (K::Mprotect, &[("addr", Number(0)), ("length", Number(1)), ("prot", Bits(2, flags::PROT))]),
        (
            K::Mmap,
            &[
                ("addr", Number(0)),
                ("length", Number(1)),
                ("prot", Bits(2, flags::PROT)),
                ("flags", Bits(3, flags::MAP)),
                ("fd", Signed(4)),
                ("offset", Number(5)),
            ],
        ),
    ]
};

/// The parameter `name` of the event.
pub(super) fn param<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    let body = event.raw.call()?;
    let (_, params) = PARAMS.iter().find(|(kind, _)| *kind == event.kind())?;
    let (_, from) = params.iter().find(|(known, _)| *known == name)?;
    let arg = |n: u8| body.args.get(usize::from(n)).copied().unwrap_or_default();
    let one = |value: u64, names: Names| {
        let text = flags::name_of(names, value).map_or_else(|| decimal(event, value as i64), str::as_bytes);
        Param::Named(value, text)
    };
    // Arguments of 32 bits may have anything in their upper half.
    let half = |n: u8| u64::from(arg(n) as u32);
    Some(match *from {
        Source::Number(n) => Param::Number(arg(n) as i64),
        Source::Signed(n) => Param::Number(i64::from(arg(n) as i32)),
        Source::User(n) => Param::Named(half(n), user(event, half(n))),
        Source::One(n, names) => one(half(n), names),
        Source::Bits(n, names) => Param::Named(half(n), flags::join_bits(event.scratch, names, half(n))),
        Source::Text => Param::Text(event.raw.text(body.text)),
        Source::Text2 => Param::Text(event.raw.text(body.text2)),
        Source::Text3 => Param::Text(event.raw.text(body.text3)),
        Source::Result => Param::Result(event.raw.header.ret),
        Source::QuotaCommand => one(half(0) >> 8, flags::QUOTA),
        Source::QuotaType => one(half(0) & 0xff, flags::QUOTA_TYPE),
    })
}

/// Names that an argument of this kind may be given by, for events written by hand.
pub(crate) fn names_of(kind: EventKind, index: usize) -> Option<Names> {
    let (_, params) = PARAMS.iter().find(|(known, _)| *known == kind)?;
    params.iter().find_map(|(_, from)| match *from {
        Source::One(n, names) | Source::Bits(n, names) if usize::from(n) == index => Some(names),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Shape;

    #[test]
    fn every_parameter_in_the_table_is_one_of_its_event() {
        for (kind, params) in PARAMS {
            assert_eq!(kind.info().shape, Shape::Call, "{kind:?}");
            for (name, _) in *params {
                assert!(kind.info().params.contains(name), "{kind:?} {name}");
            }
            // What is not here but in the event is the result.
            for name in kind.info().params {
                assert!(*name == "res" || params.iter().any(|(known, _)| known == name), "{kind:?} {name}");
            }
        }
    }
}
