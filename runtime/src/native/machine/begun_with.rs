//! What a running QEMU was begun with, as its command line in `/proc` says.

/// What does not change as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BegunWith {
    /// Bytes of memory, without what is plugged in.
    pub memory: u64,
    /// Whether it went on with a state from elsewhere, of which its command line does not tell.
    pub is_continued: bool,
    /// Whether QEMU runs the instructions itself: then only what is asked for, or told in an event, stops its processors.
    pub is_emulated: bool,
}

impl BegunWith {
    /// What a command line says, as `/proc/PID/cmdline` has it; none: it is none that keel makes.
    pub fn parse(line: &str) -> Option<Self> {
        let words = || line.split('\0');
        let after = |option: &str| words().skip_while(move |word| *word != option).nth(1);
        let size = after("-m")?.split(',').next()?.strip_prefix("size=")?;
        let size: u64 = size.strip_suffix('M')?.parse().ok()?;
        let machine = after("-machine")?;
        Some(Self {
            memory: size.checked_mul(1 << 20)?,
            is_continued: words().any(|word| word == "-incoming"),
            is_emulated: machine.split(',').any(|part| part == "accel=tcg"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_of_keel_is_understood_and_no_other() {
        let of = |words: &[&str]| BegunWith::parse(&words.join("\0"));
        let machine = "q35,accel=tcg,usb=off";
        let line = [
            "qemu",
            "-machine",
            machine,
            "-m",
            "size=256M,slots=8,maxmem=512M",
            "",
        ];
        let wanted = BegunWith {
            memory: 256 << 20,
            is_continued: false,
            is_emulated: true,
        };
        assert_eq!(of(&line), Some(wanted));
        let continued = [
            "qemu",
            "-machine",
            "q35,accel=kvm",
            "-m",
            "size=1M",
            "-incoming",
            "defer",
        ];
        let wanted = BegunWith {
            memory: 1 << 20,
            is_continued: true,
            is_emulated: false,
        };
        assert_eq!(of(&continued), Some(wanted));
        for other in [
            &["qemu", "-m", "256"][..],
            &["qemu", "-m"],
            &["qemu", "-machine", machine, "-m", "size=1G"],
            &[],
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
