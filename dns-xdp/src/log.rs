//! Writes to stderr. A separate thread writes the daemon's log, so that nothing else waits for the log's reader.
//!
//! The reader may be gone (a closed pipe), out of room (a full disk) or stuck (a full pipe). Lines wait up to a limit,
//! and lines beyond it are lost. When the log can be written again, the number of lost lines is written to it.
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::unprivileged;

/// The most octets that wait for the reader: some thousand lines.
const WAITING_MOST: usize = 1024 * 1024;
/// Octets that a waiting line takes besides its text.
const OVERHEAD: usize = 64;
/// How long the end of the daemon waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The pause before the next write to a stderr that is non-blocking and full.
const RETRY: Duration = Duration::from_millis(20);

static LOG: OnceLock<Log> = OnceLock::new();

/// Starts the thread that writes to stderr. From then on [`tell`] and panics write through it.
///
/// # Errors
/// The thread cannot start, or stderr cannot be duplicated.
pub(crate) fn start() -> io::Result<&'static Log> {
    // Not `io::stderr`: a thread that is stuck in a write would hold its lock.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let log = Log::start(stderr)?;
    let log = LOG.get_or_init(|| log);
    panic::set_hook(Box::new(|defect| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        // Empty unless RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => tell(format_args!("thread '{name}' {defect}\n{trace}")),
            _ => tell(format_args!("thread '{name}' {defect}")),
        }
        if thread.name() == Some("main") {
            finish();
        }
    }));
    Ok(log)
}

/// Writes a line to stderr. A stderr that cannot be written is ignored.
pub(crate) fn tell(line: impl fmt::Display) {
    let line = format!("{line}\n");
    match LOG.get() {
        Some(log) => log.take(line.as_bytes()),
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Waits until the log is written, for a second at most.
pub(crate) fn finish() {
    if let Some(log) = LOG.get() {
        log.flush(LAST_LINES);
    }
}

/// The lines that wait for the thread.
#[derive(Debug)]
pub(crate) struct Log {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Octets of the lines that wait, with their overhead.
    waiting: AtomicUsize,
    /// The number of lines that were lost because there was no room.
    lost: AtomicU64,
}

#[derive(Debug)]
enum Order {
    Write(Vec<u8>),
    /// A sender that is dropped when everything before it is written.
    Flush(mpsc::Sender<()>),
}

impl Log {
    fn start(out: impl Write + Send + 'static) -> io::Result<Log> {
        let (orders, waiting) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer { out, shared: Arc::clone(&shared), unwritten: 0, torn: false };
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            unprivileged::give_up_all();
            writer.run(&waiting);
        })?;
        Ok(Log { orders, shared })
    }

    /// Queues a line, or counts it as lost. Never waits.
    fn take(&self, line: &[u8]) {
        let cost = line.len() + OVERHEAD;
        if self.shared.waiting.fetch_add(cost, Ordering::Relaxed) + cost > WAITING_MOST {
            self.shared.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.orders.send(Order::Write(line.to_vec())).ok();
    }

    fn flush(&self, limit: Duration) {
        let (written, waits) = mpsc::channel();
        self.orders.send(Order::Flush(written)).ok();
        // The thread sends nothing: it drops its end of the channel.
        waits.recv_timeout(limit).ok();
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread's side of the log.
struct Writer<W> {
    out: W,
    shared: Arc<Shared>,
    /// Lost lines that the log has not reported yet.
    unwritten: u64,
    /// Whether the last line was cut off.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(&mut self, orders: &mpsc::Receiver<Order>) {
        loop {
            let order = orders.try_recv().or_else(|_| {
                self.unwritten += self.shared.lost.swap(0, Ordering::Relaxed);
                self.tell_loss();
                orders.recv()
            });
            match order {
                Ok(Order::Write(line)) => {
                    if !self.tell_loss() || !self.write(&line) {
                        self.unwritten += 1;
                    }
                    self.shared.waiting.fetch_sub(line.len() + OVERHEAD, Ordering::Relaxed);
                }
                Ok(Order::Flush(written)) => {
                    self.unwritten += self.shared.lost.swap(0, Ordering::Relaxed);
                    self.tell_loss();
                    drop(written);
                }
                Err(mpsc::RecvError) => return,
            }
        }
    }

    /// Writes the number of lost lines, if there are any. Returns `false` if that cannot be written either.
    fn tell_loss(&mut self) -> bool {
        if self.unwritten == 0 {
            return true;
        }
        let (now, lost) = (Timestamp::now(), self.unwritten);
        let lines = if lost == 1 { "line of the log was" } else { "lines of the log were" };
        let is_written = self.write(format!("{now:.6}  WARN {lost} {lines} lost\n").as_bytes());
        if is_written {
            self.unwritten = 0;
        }
        is_written
    }

    /// Whether the whole line was written.
    fn write(&mut self, line: &[u8]) -> bool {
        let line = if self.torn { &[b"\n", line].concat() } else { line };
        let mut rest = line;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(count @ 1..) => {
                    self.torn = true;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Ok(0) | Err(_) => return false,
            }
        }
        self.torn = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, ErrorKind};
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A file that accepts `room` octets, and then reports an error.
    #[derive(Debug, Clone)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn new(room: usize) -> Disk {
            Disk(Arc::new(Mutex::new((Vec::new(), room))))
        }

        fn make_room(&self) {
            self.0.lock().unwrap().1 = usize::MAX;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let count = octets.len().min(disk.1);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            disk.0.extend(&octets[..count]);
            disk.1 = disk.1.saturating_sub(count);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the line without its time.
    fn loss(line: &str) -> &str {
        line.split_once("  WARN ").map_or(line, |(_, text)| text)
    }

    #[test]
    fn a_reader_that_is_stuck_holds_nothing_up_and_is_told_what_it_has_missed() {
        let (reader, writer) = io::pipe().unwrap();
        let log = Log::start(writer).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        let began = Instant::now();
        for _ in 0..10_000 {
            log.take(line.as_bytes());
        }
        let lost = log.shared.lost.load(Ordering::Relaxed);
        assert!((8_500..9_500).contains(&lost), "{lost}");
        log.flush(Duration::from_millis(50));
        assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        for _ in 0..10_000 - lost {
            assert_eq!(lines.next().unwrap().len(), 999);
        }
        assert_eq!(loss(&lines.next().unwrap()), format!("{lost} lines of the log were lost"));
        log.take(b"next\n");
        assert_eq!(lines.next().unwrap(), "next");
    }

    #[test]
    fn a_reader_that_is_gone_ends_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let log = Log::start(writer).unwrap();
        for _ in 0..10 {
            log.take(b"lost\n");
        }
        log.flush(LONG);
        assert_eq!(log.shared.waiting.load(Ordering::Relaxed), 0);
        log.take(b"lost too\n");
        log.flush(LONG);
    }

    #[test]
    fn a_full_disk_loses_lines_and_takes_the_next_ones_whole() {
        let disk = Disk::new(8);
        let log = Log::start(disk.clone()).unwrap();
        for line in ["first\n", "second\n", "third\n"] {
            log.take(line.as_bytes());
        }
        log.flush(LONG);
        assert_eq!(disk.text(), "first\nse");
        disk.make_room();
        log.take(b"fourth\n");
        log.flush(LONG);
        let text = disk.text();
        let lines: Vec<&str> = text.lines().map(loss).collect();
        assert_eq!(lines, ["first", "se", "2 lines of the log were lost", "fourth"]);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let disk = Disk::new(usize::MAX);
        let log = Log::start(disk.clone()).unwrap();
        (0..1000).for_each(|number| log.take(format!("{number}\n").as_bytes()));
        log.flush(LONG);
        assert!(disk.text().ends_with("\n999\n"));
    }
}
