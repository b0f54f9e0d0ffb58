//! A TOML table that is read key by key. A key that the code has not read is unknown. A problem does not end the
//! reading.
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Diagnostics};

/// Reads one value. The error continues a sentence that begins with the key: "is 70000; write …".
pub(super) type Read<T> = fn(&DeValue<'_>) -> Result<T, String>;

/// Whether a value is the default of its key.
pub(super) type IsDefault = fn(&DeValue<'_>) -> bool;

/// Whether a list is empty, for keys whose default is an empty list.
pub(super) fn is_empty_list(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|array| array.is_empty())
}

/// A table of the file. A missing table reads like an empty one.
pub(super) struct TableReader<'a> {
    /// The header as in the file: `[zone]`; empty for the file itself.
    title: String,
    at: usize,
    table: Option<&'a DeTable<'a>>,
    problems: &'a Diagnostics,
    asked: Vec<&'static str>,
    /// Keys that were refused with a message of their own.
    refused: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// Makes a reader of the file itself.
    pub(super) fn file(table: &'a DeTable<'a>, problems: &'a Diagnostics) -> Self {
        TableReader {
            title: String::new(),
            at: 0,
            table: Some(table),
            problems,
            asked: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Returns where the section begins. A missing section has the place of the table around it.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns the header as in the file.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// Whether the table is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_none_or(|table| table.is_empty())
    }

    /// Returns where the value of `key` begins, if the key is there.
    pub(super) fn place(&mut self, key: &'static str) -> Option<usize> {
        self.find(key).map(|value| value.span().start)
    }

    /// Returns the table under `key`.
    pub(super) fn section(&mut self, key: &'static str, title: &str) -> TableReader<'a> {
        let found = self.find(key);
        let at = found.map_or(self.at, |value| value.span().start);
        let table = found.and_then(|value| self.table_in(value, title));
        TableReader {
            title: title.to_owned(),
            at,
            table,
            problems: self.problems,
            asked: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Returns the tables under `key`, each written as `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str, title: &str) -> Vec<TableReader<'a>> {
        let Some(found) = self.find(key) else {
            return Vec::new();
        };
        let Some(array) = found.get_ref().as_array() else {
            self.problems.add(found.span().start, format!("`{key}` is a list; begin each with {title}"));
            return Vec::new();
        };
        let section = |value: &'a Spanned<DeValue<'a>>| {
            let (at, table) = (value.span().start, self.table_in(value, title)?);
            let (title, problems) = (title.to_owned(), self.problems);
            Some(TableReader {
                title,
                at,
                table: Some(table),
                problems,
                asked: Vec::new(),
                refused: Vec::new(),
            })
        };
        array.iter().filter_map(section).collect()
    }

    /// Returns each key of this table with the table under it. Every key is known.
    pub(super) fn tables(&mut self, title: &str) -> Vec<(At<String>, TableReader<'a>)> {
        let mut tables = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            let Some(table) = self.table_in(value, title) else { continue };
            let (at, name) = (key.span().start, key.get_ref().to_string());
            let title = title.rsplit_once('.').map_or(title, |(above, _)| above);
            let reader = TableReader {
                title: format!("{title}.{name}]"),
                at,
                table: Some(table),
                problems: self.problems,
                asked: Vec::new(),
                refused: Vec::new(),
            };
            tables.push((At { at, value: name }, reader));
        }
        tables
    }

    /// Whether `key` has exactly this text.
    pub(super) fn says(&self, key: &str, text: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.and_then(|value| value.get_ref().as_str()) == Some(text)
    }

    /// Records a problem at every key that was not read.
    pub(super) fn refuse_others(&self, text: &str) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                self.problem(key.span().start, format!("`{name}` {text}"));
            }
        }
    }

    /// Whether `key` is present, even with a wrong value.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Returns the value of `key`; `None` if it is absent or wrong. Records a wrong value.
    pub(super) fn value<T>(&mut self, key: &'static str, read: Read<T>) -> Option<T> {
        self.located(key, read).map(|located| located.value)
    }

    /// Like [`TableReader::value`], but also returns the place of the value.
    pub(super) fn located<T>(&mut self, key: &'static str, read: Read<T>) -> Option<At<T>> {
        let value = self.find(key)?;
        self.read(key, value, read)
    }

    /// Like [`TableReader::located`], but records a problem if the key is absent.
    pub(super) fn required<T>(&mut self, key: &'static str, example: &str, read: Read<T>) -> Option<At<T>> {
        self.demand(key, example);
        self.located(key, read)
    }

    /// Like [`TableReader::list`], but records a problem if the list is absent or empty.
    pub(super) fn required_list<T>(&mut self, key: &'static str, example: &str, read: Read<T>) -> Vec<At<T>> {
        self.demand(key, example);
        self.filled_list(key, example, read)
    }

    /// Like [`TableReader::list`], but records a problem if the list is present and empty.
    pub(super) fn filled_list<T>(&mut self, key: &'static str, example: &str, read: Read<T>) -> Vec<At<T>> {
        if let Some(found) = self.find(key)
            && found.get_ref().as_array().is_some_and(|array| array.is_empty())
        {
            self.problems.add(found.span().start, format!("`{key}` is empty; write {key} = {example}"));
        }
        self.list(key, read)
    }

    /// Returns the elements of the list under `key`; empty if it is absent.
    pub(super) fn list<T>(&mut self, key: &'static str, read: Read<T>) -> Vec<At<T>> {
        let Some(found) = self.find(key) else {
            return Vec::new();
        };
        let Some(array) = found.get_ref().as_array() else {
            self.problems
                .add(found.span().start, format!("`{key}` is a list; write it in brackets: [\"…\"]"));
            return Vec::new();
        };
        array.iter().filter_map(|value| self.read(key, value, read)).collect()
    }

    /// Records a problem of this section.
    pub(super) fn problem(&self, at: usize, text: impl Into<String>) {
        self.problems.add(at, text);
    }

    /// Records a problem at `key`, if it is there.
    pub(super) fn refuse(&mut self, key: &'static str, text: String) {
        if let Some((found, _)) = self.table.and_then(|table| table.get_key_value(key)) {
            self.problem(found.span().start, text);
            self.refused.push(key);
        }
    }

    /// Records a problem for each present key, unless it has its default: the key has no effect without `lacks`. The
    /// keys count as read.
    pub(super) fn without_effect(&mut self, keys: &[(&'static str, IsDefault)], lacks: &str) {
        for (key, is_default) in keys {
            if self.find(key).is_some_and(|value| !is_default(value.get_ref())) {
                let at = self
                    .table
                    .and_then(|table| table.get_key_value(*key))
                    .map_or(0, |(key, _)| key.span().start);
                self.problem(at, format!("`{key}` has no effect without {lacks}; write that, or remove it"));
            }
        }
    }

    /// Records keys that have no effect unless `switch` is there. A switch that is explicitly off may keep its
    /// settings.
    pub(super) fn needs(&mut self, switch: &'static str, keys: &[(&'static str, IsDefault)]) {
        if !self.has(switch) {
            self.without_effect(keys, &format!("`{switch}`"));
        }
    }

    /// Ends the reading. Records every key that was not read as unknown.
    pub(super) fn close(&self) {
        let Some(table) = self.table else {
            return;
        };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            self.problems.add_unknown_key(key.span().start, name, &self.asked);
        }
    }

    fn demand(&mut self, key: &'static str, example: &str) {
        if !self.has(key) {
            let title = &self.title;
            self.problems.add(self.at, format!("{title} has no `{key}`; write {key} = {example}"));
        }
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }

    fn table_in(&self, value: &'a Spanned<DeValue<'a>>, title: &str) -> Option<&'a DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.problems.add(value.span().start, format!("a section is wanted here; write {title}"));
        }
        table
    }

    fn read<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, read: Read<T>) -> Option<At<T>> {
        let at = value.span().start;
        match read(value.get_ref()) {
            Ok(value) => Some(At { at, value }),
            Err(problem) => {
                self.problems.add(at, format!("`{key}` {problem}"));
                None
            }
        }
    }
}
