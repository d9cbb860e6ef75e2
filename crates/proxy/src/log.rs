//! Where does the proxy say what it is doing?
//!
//! To its host: the sidecar writes lines to standard error, Node hands them to the application's logger. What is said
//! here is about the proxy (it listens, an update was refused, a name can't be looked up), not about a request: that is
//! the access log's. So it is rare, and may allocate and lock. Data threads say next to nothing: of what callers may cause
//! as often as they like (who is not believed, what policy denies) something once a second.

use std::fmt::{self, Display, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::telemetry::access_log::line::write_time;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed, and somebody should look.
    Error,
    /// Something may fail soon, or was refused.
    Warn,
    /// What an operator wants to know: it listens, it drains, a configuration is live. The default.
    Info,
    /// What helps to find out why.
    Debug,
}

impl Level {
    /// Every level, the gravest first.
    pub const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// The level's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl FromStr for Level {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or("expected error, warn, info or debug")
    }
}

/// One thing that is said.
pub struct Entry<'a> {
    /// How much it matters.
    pub level: Level,
    /// What happened, in words.
    pub message: &'a str,
    /// With what, for programs: name and value.
    pub fields: &'a [(&'a str, &'a dyn Display)],
}

/// What a host may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A drain was asked for on the admin port.
    Drain,
    /// A panic was contained.
    Panic,
}

impl News {
    /// Its name in an entry's field `about`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Panic => "panic",
        }
    }
}

/// Takes what is said.
type Sink = Box<dyn Fn(&Entry<'_>) + Send + Sync>;
/// Takes news.
type NewsSink = Box<dyn Fn(News, &Entry<'_>) + Send + Sync>;

/// What one proxy has to say. Shared by its threads.
pub struct Log {
    level: AtomicU8,
    sink: Sink,
    news: Option<NewsSink>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.level()).finish()
    }
}

impl Log {
    /// A log that gives what matters at least as much as `level` to `sink`, on the thread that says it.
    pub fn new(level: Level, sink: impl Fn(&Entry<'_>) + Send + Sync + 'static) -> Self {
        Self {
            level: AtomicU8::new(level as u8),
            sink: Box::new(sink),
            news: None,
        }
    }

    /// Gives what the host acts on to `news` instead, whatever the level: see [`Log::tell`].
    #[must_use]
    pub fn with_news(mut self, news: impl Fn(News, &Entry<'_>) + Send + Sync + 'static) -> Self {
        self.news = Some(Box::new(news));
        self
    }

    /// A log that nobody reads.
    pub fn silent() -> Self {
        Self::new(Level::Error, |_| {})
    }

    /// The least that is said.
    pub fn level(&self) -> Level {
        let level = self.level.load(Relaxed);
        Level::ALL
            .into_iter()
            .find(|known| *known as u8 == level)
            .unwrap_or(Level::Info)
    }

    /// Changes the least that is said, from now on.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Relaxed);
    }

    /// Says something, if the level lets it pass.
    pub fn say(&self, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        if level as u8 <= self.level.load(Relaxed) {
            (self.sink)(&Entry {
                level,
                message,
                fields,
            });
        }
    }

    /// Says something that a host may act on. A host that takes news gets it at every level; for others it is an entry
    /// like any.
    pub fn tell(&self, level: Level, message: &str, about: News) {
        let name = about.as_str();
        let fields: &[(&str, &dyn Display)] = &[("about", &name)];
        match &self.news {
            Some(news) => news(
                about,
                &Entry {
                    level,
                    message,
                    fields,
                },
            ),
            None => self.say(level, message, fields),
        }
    }

    /// Says that something failed.
    pub fn error(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.say(Level::Error, message, fields);
    }

    /// Says that something may fail or was refused.
    pub fn warn(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.say(Level::Warn, message, fields);
    }

    /// Says what an operator wants to know.
    pub fn info(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.say(Level::Info, message, fields);
    }

    /// Says what helps to find out why.
    pub fn debug(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.say(Level::Debug, message, fields);
    }
}

impl Entry<'_> {
    /// The entry as a line for people, without its end: `warning: the file can't be read path=/etc/mesh.json`.
    pub fn text(&self) -> String {
        let mut line = String::from(match self.level {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug => "debug: ",
        });
        push_plain(&mut line, self.message);
        // What it is about is for programs; people have read it by now.
        for (name, value) in self.fields.iter().filter(|(name, _)| *name != "about") {
            let value = value.to_string();
            let is_word = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"');
            line.push(' ');
            line.push_str(name);
            line.push('=');
            if is_word {
                push_plain(&mut line, &value);
            } else {
                line.push_str(&Value::from(value).to_string());
            }
        }
        line
    }

    /// The entry as a JSON object: `time`, `level`, `message` and the fields.
    pub fn json(&self, time: SystemTime) -> Value {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut stamp = Vec::new();
        write_time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), &mut stamp);
        let mut object = Map::new();
        for (name, value) in self.fields {
            object.insert((*name).into(), value.to_string().into());
        }
        object.insert("time".into(), String::from_utf8_lossy(&stamp).into());
        object.insert("level".into(), self.level.as_str().into());
        object.insert("message".into(), self.message.into());
        Value::Object(object)
    }
}

/// A line stays a line, and a terminal is told nothing: control characters are escaped.
fn push_plain(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            // Writing to memory can't fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[test]
    fn levels_are_kept_and_changed() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let log = Log::new(Level::Info, {
            let said = Arc::clone(&said);
            move |entry| said.lock().unwrap().push(entry.text())
        });
        let all = || {
            log.error("broken", &[]);
            log.warn("odd", &[("file", &"a b")]);
            log.info("fine", &[("port", &80)]);
            log.debug("deep", &[]);
            std::mem::take(&mut *said.lock().unwrap())
        };
        assert_eq!(
            all(),
            ["error: broken", "warning: odd file=\"a b\"", "fine port=80"]
        );
        log.set_level(Level::Debug);
        assert_eq!(all().last().unwrap(), "debug: deep");
        log.set_level(Level::Error);
        assert_eq!((log.level(), all().len()), (Level::Error, 1));
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("INFO".parse::<Level>().is_err());
    }

    #[test]
    fn news_pass_at_every_level_and_are_entries_where_nobody_takes_them() {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = |kind: &'static str| {
            let said = Arc::clone(&said);
            move |entry: &Entry<'_>| said.lock().unwrap().push(format!("{kind}: {}", entry.text()))
        };
        let news = noted("news");
        let log = Log::new(Level::Error, noted("log")).with_news(move |_, entry| news(entry));
        log.tell(Level::Info, "draining", News::Drain);
        log.info("unheard", &[]);
        let plain = Log::new(Level::Error, noted("plain"));
        plain.tell(Level::Info, "unheard", News::Drain);
        plain.tell(Level::Error, "broken", News::Panic);
        assert_eq!(*said.lock().unwrap(), ["news: draining", "plain: error: broken"]);
    }

    #[test]
    fn a_line_stays_a_line() {
        let entry = Entry {
            level: Level::Warn,
            message: "one\ntwo\x1b[31m",
            fields: &[("about", &"x"), ("a", &"x\ny"), ("b", &"\x07"), ("empty", &"")],
        };
        assert_eq!(
            entry.text(),
            r#"warning: one\ntwo\u{1b}[31m a="x\ny" b=\u{7} empty="""#
        );
        let json = entry.json(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        assert!(!json.to_string().contains('\n'), "{json}");
        let expected = serde_json::json!({
            "time": "2023-11-14T22:13:20.123Z", "level": "warn", "message": "one\ntwo\x1b[31m",
            "about": "x", "a": "x\ny", "b": "\x07", "empty": "",
        });
        assert_eq!(json, expected);
    }
}
