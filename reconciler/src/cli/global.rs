//! Flags that every command takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use manifests::id::Address;

use runtime::native::machine::Choice;

use super::elsewhere::Elsewhere;
use super::invocation::environment;
use crate::view::text::shell_word;

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalOptions {
    /// Go to this folder first.
    #[arg(short = 'C', long, value_name = "DIR", global = true)]
    pub(super) directory: Option<PathBuf>,

    /// Where images, instances and the database live.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        default_value = STATE_DIR
    )]
    pub(super) state_dir: PathBuf,

    /// What does the work: `native`, or a server of Incus as `incus:REMOTE` (a remote of its own client), `incus:unix:PATH` or
    /// `incus:https://HOST:PORT`.
    #[arg(long, value_name = "ENGINE", global = true, default_value = "native")]
    pub(super) engine: Engine,

    #[command(flatten)]
    pub(super) elsewhere: Elsewhere,

    /// Who runs the instructions of virtual machines: KVM, QEMU itself (slow), or KVM where it works.
    #[arg(long, value_name = "WHO", global = true, default_value = "auto")]
    pub(super) accelerator: Accelerator,

    /// The project in which names without one are looked up.
    #[arg(long, value_name = "NAME", global = true, default_value = PROJECT)]
    pub(super) project: String,

    /// Also write the machine-readable output to this file.
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) json_into: Option<PathBuf>,

    /// Only these objects; a partial run deletes nothing.
    #[arg(
        long,
        value_name = "KIND/NAME",
        global = true,
        value_delimiter = ',',
        value_parser = address
    )]
    pub(super) only: Vec<Address>,

    /// All but these objects; a partial run deletes nothing.
    #[arg(
        long,
        value_name = "KIND/NAME",
        global = true,
        value_delimiter = ',',
        value_parser = address
    )]
    pub(super) exclude: Vec<Address>,

    /// Only objects with these labels: `tier=web,env!=test,owner`.
    #[arg(short = 'l', long, value_name = "LABELS", global = true)]
    pub(super) selector: Option<String>,

    /// Colours.
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub(super) color: ColorWhen,

    /// Say only what failed.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,

    /// Tell what is done; twice: in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,

    /// How many steps run at once; absent: as many as there are processors, at least four.
    #[arg(long, value_name = "COUNT", global = true, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) parallelism: Option<u16>,

    /// How long one start, stop or wait may take.
    #[arg(long, value_name = "DURATION", global = true, default_value = "2m", value_parser = duration)]
    pub(super) timeout: Duration,

    /// Never ask.
    #[arg(long, global = true)]
    pub(super) no_input: bool,
}

/// Who runs the instructions of virtual machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Accelerator {
    Auto,
    Kvm,
    Tcg,
}

impl From<Accelerator> for Choice {
    fn from(accelerator: Accelerator) -> Self {
        match accelerator {
            Accelerator::Auto => Self::Auto,
            Accelerator::Kvm => Self::Kvm,
            Accelerator::Tcg => Self::Tcg,
        }
    }
}

/// Where everything lives where nobody says.
const STATE_DIR: &str = "/var/lib/keel";
/// The project where nobody says.
const PROJECT: &str = "default";

impl GlobalOptions {
    /// `keel`, and what has to be said again for the same folders: `keel -C hosts/edge --state-dir /srv/keel`. What the
    /// environment says is said already.
    pub(super) fn keel(&self) -> String {
        let mut words = "keel".to_owned();
        let is_said = |variable, folder: &Path| {
            environment(variable).is_some_and(|said| Path::new(&said) == folder)
        };
        if let Some(folder) = &self.directory
            && !is_said("KEEL_DIRECTORY", folder)
        {
            words.push_str(&format!(" -C {}", shell_word(folder)));
        }
        if self.state_dir != Path::new(STATE_DIR) && !is_said("KEEL_STATE_DIR", &self.state_dir) {
            words.push_str(&format!(" --state-dir {}", shell_word(&self.state_dir)));
        }
        match &self.engine {
            // What does the work unasked.
            Engine::Native => {}
            Engine::Incus(server) => {
                let engine = format!("incus:{server}");
                if environment("KEEL_ENGINE").is_none_or(|said| said != engine) {
                    words.push_str(&format!(" --engine {}", shell_word(Path::new(&engine))));
                }
            }
        }
        words
    }

    /// What has to be said again for the same objects: ` --only instance/web`.
    pub(super) fn selection(&self) -> String {
        let mut words = String::new();
        if self.project != PROJECT {
            words.push_str(&format!(
                " --project {}",
                shell_word(Path::new(&self.project))
            ));
        }
        for (flag, addresses) in [("only", &self.only), ("exclude", &self.exclude)] {
            for address in addresses {
                let address = address.to_string();
                words.push_str(&format!(" --{flag} {}", shell_word(Path::new(&address))));
            }
        }
        if let Some(selector) = &self.selector {
            words.push_str(&format!(" --selector {}", shell_word(Path::new(selector))));
        }
        words
    }
}

/// What does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Engine {
    /// Containers, bridges and pools of this host.
    Native,
    /// A server of Incus, by how it was said: `local`, `unix:/path`, `https://host:8443`.
    Incus(String),
}

impl std::str::FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "native" => Ok(Self::Native),
            None if text == "incus" => Ok(Self::Incus("local".to_owned())),
            Some(("incus", server)) if !server.is_empty() => Ok(Self::Incus(server.to_owned())),
            _ => Err(format!(
                "`{text}` is no engine: write native, incus:REMOTE, incus:unix:PATH or incus:https://HOST:PORT"
            )),
        }
    }
}

impl Engine {
    /// As manifests are weighed for it.
    pub(super) const fn weighed(&self) -> manifests::support::Engine {
        match self {
            Self::Native => manifests::support::Engine::Native,
            Self::Incus(_) => manifests::support::Engine::Incus,
        }
    }
}

/// When output has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is dumb.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// Puts the choice in force for all output of this process.
    pub(super) fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Reads `KIND/NAME`, with the nearest right word in the error.
pub(super) fn address(text: &str) -> Result<Address, String> {
    text.parse::<Address>()
        .map_err(|error| match error.nearest.first() {
            Some(word) => format!("{error}; did you mean `{word}`?"),
            None => error.to_string(),
        })
}

/// Reads a span of time: `30s`, `5m`, `12h`, `7d`, `4w`, and several of them together: `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write 30s, 5m, 12h, 7d, 4w or 1h30m");
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|character: char| !character.is_ascii_digit())
            .ok_or_else(wrong)?;
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..]
            .find(|character: char| character.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(wrong()),
        };
        seconds = count
            .checked_mul(unit)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

/// Gives every flag of a command and of those below it its environment variable: `--state-dir` is `KEEL_STATE_DIR`.
pub(super) fn with_environment(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let Some(long) = argument.get_long() else {
                return argument;
            };
            if matches!(long, "help" | "version") {
                return argument;
            }
            let name = format!("KEEL_{}", long.replace('-', "_").to_uppercase());
            let switch = matches!(argument.get_action(), clap::ArgAction::SetTrue);
            // One name per flag for the life of the process: a leak that ends with it.
            let argument = argument.env(&*name.leak()).hide_env(true);
            if switch {
                argument.value_parser(FalseyValueParser::new())
            } else {
                argument
            }
        })
        .mut_subcommands(with_environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("1h30m", 5400),
            ("7d", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5x", "-1s", "1.5h", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_said_is_said_again_for_a_shell() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            global: GlobalOptions,
        }
        let said = |words: &[&str]| {
            let words = std::iter::once("keel").chain(words.iter().copied());
            let global = <Line as clap::Parser>::parse_from(words).global;
            (global.keel(), global.selection())
        };
        assert_eq!(said(&[]), ("keel".to_owned(), String::new()));
        let words = [
            "-C",
            "it's here",
            "--state-dir=/srv/ü keel",
            "--only=instance/a,network/b",
            "-l",
            "a!=b",
            "--project=shop",
            "--quiet",
        ];
        assert_eq!(
            said(&words),
            (
                r"keel -C 'it'\''s here' --state-dir '/srv/ü keel'".to_owned(),
                " --project shop --only instance/a --only network/b --selector 'a!=b'".to_owned()
            )
        );
    }

    #[test]
    fn engines_are_named() {
        for (text, wanted) in [
            ("native", Engine::Native),
            ("incus", Engine::Incus("local".to_owned())),
            ("incus:unix:/run/x", Engine::Incus("unix:/run/x".to_owned())),
            (
                "incus:https://a:8443",
                Engine::Incus("https://a:8443".to_owned()),
            ),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for text in ["", "docker", "incus:", "native:x"] {
            assert!(text.parse::<Engine>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_kind_names_the_nearest() {
        let error = address("instanse/a").expect_err("no such kind");
        assert!(error.contains("did you mean `instance`?"), "{error}");
    }
}
