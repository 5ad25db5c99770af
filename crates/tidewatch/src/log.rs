//! The program's own log: text for people, JSON for machines, lines that journald sorts by level; to standard error or
//! to files that are rotated by size.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text; with journald's level marks and without the time where journald takes the lines.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, how and where.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Which process this is; each line says so unless it is empty.
    pub process: &'static str,
    /// Least level (`info`), or a filter such as `warn,tidewatch=debug`.
    pub level: String,
    /// Whether the level was given on the command line: then a reload does not change it.
    pub fixed: bool,
    /// How lines look.
    pub format: LogFormat,
    /// Folder for files; `None`: standard error.
    pub folder: Option<PathBuf>,
    /// Size in MiB at which a file is rotated.
    pub max_mib: u64,
    /// Rotated files that are kept.
    pub keep: usize,
}

/// Changes the level while the program runs.
#[derive(Clone)]
pub struct LogLevel {
    set: Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
    /// Given on the command line: the configuration does not change it.
    fixed: bool,
}

impl LogLevel {
    /// Logs by this level or filter from now on.
    ///
    /// # Errors
    /// If it is no filter.
    pub fn set(&self, level: &str) -> anyhow::Result<()> {
        if self.fixed {
            return Ok(());
        }
        (self.set)(filter(level)?).context("the log is closed")
    }
}

/// Starts to log.
///
/// # Errors
/// If the filter cannot be read or the file cannot be written.
pub fn start(options: &LogOptions) -> anyhow::Result<LogLevel> {
    let journald = options.folder.is_none() && std::env::var_os("JOURNAL_STREAM").is_some();
    let (filter, handle) = reload::Layer::new(filter(&options.level)?);
    let writer = match &options.folder {
        Some(folder) => Output::File(Arc::new(Mutex::new(open(folder, options)?))),
        None => Output::Stderr,
    };
    let colours =
        matches!(writer, Output::Stderr) && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    match options.format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(false)).init(),
        LogFormat::Auto | LogFormat::Text => {
            let marks = journald && options.format == LogFormat::Auto;
            registry.with(lines.event_format(Text { process: options.process, marks })).init();
        }
    }
    Ok(LogLevel { set: Arc::new(move |filter| handle.reload(filter)), fixed: options.fixed })
}

/// The filter for a level or filter text; `TIDEWATCH_LOG` overrides it.
fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let text = std::env::var("TIDEWATCH_LOG").unwrap_or_else(|_| level.to_owned());
    // What libraries say at `info` is seldom for an operator.
    let text = match text.as_str() {
        "info" => {
            "warn,tidewatch=info,tw_manager=info,tw_report=info,tw_sensor=info,libbpf=error,sqlx=error".to_owned()
        }
        _ => text,
    };
    let filter: EnvFilter = text.parse().with_context(|| {
        format!("log level {text:?}: use error, warn, info, debug, trace, or a filter such as warn,tidewatch=debug")
    })?;
    if text.contains("kube") {
        return Ok(filter);
    }
    // They log whole answers of a server; what is to be said of those the manager says.
    Ok(filter.add_directive("kube_client=off".parse()?).add_directive("kube_runtime=off".parse()?))
}

fn open(folder: &Path, options: &LogOptions) -> anyhow::Result<FileRotate<AppendCount>> {
    let name = if options.process.is_empty() { "tidewatch" } else { options.process };
    let path = folder.join(format!("{name}.log"));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the log folder {}", folder.display()))?;
    // The library panics where it cannot open; say it in words first.
    let mut how = std::fs::File::options();
    how.create(true).append(true).mode(0o640);
    how.open(&path).with_context(|| format!("cannot write the log {}", path.display()))?;
    let limit = ContentLimit::BytesSurpassed(usize::try_from(options.max_mib << 20).unwrap_or(usize::MAX));
    Ok(FileRotate::new(path, AppendCount::new(options.keep), limit, Compression::None, Some(how)))
}

/// Where lines go.
#[derive(Clone)]
enum Output {
    Stderr,
    File(Arc<Mutex<FileRotate<AppendCount>>>),
}

impl io::Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(line),
            Self::File(file) => match file.lock() {
                Ok(mut file) => file.write(line),
                // Somebody panicked while logging; the log goes on on standard error.
                Err(_) => io::stderr().write(line),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Output {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Lines of text.
struct Text {
    process: &'static str,
    /// journald's marks of the level in front, and no time.
    marks: bool,
}

impl<S: Subscriber + for<'s> LookupSpan<'s>, N: for<'w> FormatFields<'w> + 'static> FormatEvent<S, N> for Text {
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.marks {
            // As sd-daemon(3) has them.
            let mark = match *event.metadata().level() {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                Level::DEBUG | Level::TRACE => 7,
            };
            write!(writer, "<{mark}>")?;
            if !self.process.is_empty() {
                write!(writer, "{}: ", self.process)?;
            }
            context.format_fields(writer.by_ref(), event)?;
            return writeln!(writer);
        }
        let level = event.metadata().level();
        let (dim, plain) = if writer.has_ansi_escapes() { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
        let colour = match *level {
            _ if dim.is_empty() => "",
            Level::ERROR => "\u{1b}[31m",
            Level::WARN => "\u{1b}[33m",
            Level::INFO => "\u{1b}[32m",
            Level::DEBUG => "\u{1b}[34m",
            Level::TRACE => "\u{1b}[35m",
        };
        write!(writer, "{dim}")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "{plain} {colour}{level:>5}{plain} ")?;
        if !self.process.is_empty() {
            write!(writer, "{dim}{}:{plain} ", self.process)?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
