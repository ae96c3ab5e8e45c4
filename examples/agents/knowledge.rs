//! A knowledge base on disk: documents go in, and a question finds the passage that speaks of it, or nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tantivy::collector::{Count, TopDocs};
use tantivy::directory::MmapDirectory;
use tantivy::directory::error::LockError;
use tantivy::query::{BooleanQuery, Query, TermQuery};
use tantivy::schema::{
    Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value,
};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter, TextAnalyzer,
};
use tantivy::{Index, IndexWriter, TantivyDocument, TantivyError, Term};

/// What the index calls the way in which text becomes words.
const ANALYZER: &str = "content_words";
/// Words that a question has and that say nothing of what it is about.
const STOP_WORDS: &str = "a an and any are as at be been but by can could did do does for from had has have how i if in \
                          into is it its me my no not of on or our please shall should so tell that the their then there \
                          these they this to us was we were what when where which who whom whose why will with would you \
                          your";
/// The least memory that a writer takes, in bytes.
const WRITER_BYTES: usize = 15_000_000;
/// How long to wait for another writer.
const PATIENCE: Duration = Duration::from_secs(10);
/// No passage is longer, in characters.
const PASSAGE_MAX: usize = 1500;
/// How many of the best passages are looked at.
const BEST: usize = 20;

/// Something that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name for all time; a document of the same id replaces it.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// What it says; an empty line ends a passage.
    pub text: String,
}

/// Where an answer stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The document.
    pub id: String,
    /// What that is about.
    pub title: String,
    /// Which of its passages, from 1.
    pub passage: u64,
}

/// A passage that speaks of what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Where it stands.
    pub source: Source,
    /// What it says.
    pub text: String,
    /// How well it fits, by BM25; only to be compared within one question.
    pub score: f32,
    /// The words of the question that it has, by their stems.
    pub matched: Vec<String>,
}

/// Why the knowledge base was of no use.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// It cannot be stored, or asked, as it is.
    #[error("{0}")]
    Unfit(&'static str),
    /// There is no knowledge base.
    #[error("there is no knowledge base at {0}")]
    Missing(PathBuf),
    /// Another writer did not come to an end.
    #[error("the knowledge base is being written to by somebody else")]
    Busy,
    /// The index failed.
    #[error(transparent)]
    Index(#[from] TantivyError),
    /// Its folder is out of reach.
    #[error("{0}: {1}")]
    Folder(PathBuf, #[source] std::io::Error),
}

impl KnowledgeError {
    /// Whether another try would end the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Unfit(_))
    }
}

/// An open knowledge base. Everything that it does blocks.
pub struct Knowledge {
    index: Index,
    id: Field,
    title: Field,
    number: Field,
    text: Field,
}

impl Knowledge {
    /// Opens the one in this folder, and makes it when there is none.
    ///
    /// # Errors
    /// When the folder cannot be made, or holds something else.
    pub fn create(dir: &Path) -> Result<Self, KnowledgeError> {
        std::fs::create_dir_all(dir).map_err(|error| KnowledgeError::Folder(dir.to_owned(), error))?;
        let words = TextFieldIndexing::default();
        let words = words.set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs);
        let text = TextOptions::default().set_indexing_options(words).set_stored();
        let mut schema = Schema::builder();
        let (id, title) = (schema.add_text_field("id", STRING | STORED), schema.add_text_field("title", text.clone()));
        let (number, text) = (schema.add_u64_field("passage", INDEXED | STORED), schema.add_text_field("text", text));
        let directory = MmapDirectory::open(dir).map_err(TantivyError::from)?;
        let index = Index::open_or_create(directory, schema.build())?;
        index.tokenizers().register(ANALYZER, analyzer());
        Ok(Self { index, id, title, number, text })
    }

    /// Opens the one in this folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Self, KnowledgeError> {
        if dir.join("meta.json").is_file() { Self::create(dir) } else { Err(KnowledgeError::Missing(dir.to_owned())) }
    }

    /// Stores a document in place of what had its id, in one step; gives the number of its passages.
    ///
    /// # Errors
    /// When it says nothing, or somebody else keeps writing.
    pub fn put(&self, document: &Document) -> Result<u64, KnowledgeError> {
        let Document { id, title, text } = document;
        if id.is_empty() || id.len() > 200 || title.trim().is_empty() {
            return Err(KnowledgeError::Unfit("a document has an id of at most 200 bytes and a title"));
        }
        let passages = passages(text);
        if passages.is_empty() {
            return Err(KnowledgeError::Unfit("a document without text says nothing"));
        }
        let mut writer = self.writer()?;
        writer.delete_term(Term::from_field_text(self.id, id));
        let mut number = 0;
        for passage in passages {
            number += 1;
            let mut entry = TantivyDocument::default();
            entry.add_text(self.id, id);
            entry.add_text(self.title, title);
            entry.add_u64(self.number, number);
            entry.add_text(self.text, &passage);
            writer.add_document(entry)?;
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        Ok(number)
    }

    /// The index has one writer at a time, in whatever process.
    fn writer(&self) -> Result<IndexWriter, KnowledgeError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.index.writer_with_num_threads(1, WRITER_BYTES) {
                Err(TantivyError::LockFailure(LockError::LockBusy, _)) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TantivyError::LockFailure(LockError::LockBusy, _)) => return Err(KnowledgeError::Busy),
                made => return Ok(made?),
            }
        }
    }

    /// The passage that fits a question best: one that has, with its title, more than half of what the question is
    /// about. A score alone would always find something.
    ///
    /// # Errors
    /// When the question is about nothing.
    pub fn ask(&self, question: &str) -> Result<Option<Passage>, KnowledgeError> {
        let asked = content(question);
        if asked.is_empty() {
            return Err(KnowledgeError::Unfit("the question has no word that says what it is about"));
        }
        let term = |field, word: &String| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs))
        };
        let terms = asked.iter().flat_map(|word| [term(self.title, word), term(self.text, word)]);
        let query = BooleanQuery::union(terms.collect());
        let searcher = self.index.reader()?.searcher();
        for (score, address) in searcher.search(&query, &TopDocs::with_limit(BEST).order_by_score())? {
            let found: TantivyDocument = searcher.doc(address)?;
            let stored = |field| found.get_first(field).and_then(|value| value.as_str().map(str::to_owned));
            let (title, text) = (stored(self.title).unwrap_or_default(), stored(self.text).unwrap_or_default());
            let said = content(&format!("{title} {text}"));
            let matched: Vec<String> = asked.iter().filter(|word| said.contains(word)).cloned().collect();
            if matched.len() * 2 > asked.len() {
                let passage = found.get_first(self.number).and_then(|value| value.as_u64()).unwrap_or(1);
                let source = Source { id: stored(self.id).unwrap_or_default(), title, passage };
                return Ok(Some(Passage { source, text, score, matched }));
            }
        }
        Ok(None)
    }

    /// How many documents there are.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn documents(&self) -> Result<usize, KnowledgeError> {
        // Every document has one first passage.
        let first = TermQuery::new(Term::from_field_u64(self.number, 1), IndexRecordOption::Basic);
        Ok(self.index.reader()?.searcher().search(&first, &Count)?)
    }
}

fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(80))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(StopWordFilter::remove(STOP_WORDS.split_whitespace().map(str::to_owned)))
        .filter(Stemmer::new(Language::English))
        .build()
}

/// The stems of the words that say what a text is about, each once.
fn content(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut analyzer = analyzer();
    analyzer.token_stream(text).process(&mut |token| {
        if !words.contains(&token.text) {
            words.push(token.text.clone());
        }
    });
    words
}

/// The paragraphs of a text, long ones cut.
fn passages(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            open.push_str(line.trim_end());
            open.push('\n');
            continue;
        }
        let chars: Vec<char> = open.trim().chars().collect();
        found.extend(chars.chunks(PASSAGE_MAX).map(|part| part.iter().collect::<String>()));
        open.clear();
    }
    found
}

#[cfg(test)]
#[path = "knowledge_tests.rs"]
mod tests;
