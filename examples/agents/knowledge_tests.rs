//! What is stored is found, what is not is not.

use super::*;
use crate::tempdir::TempDir;

fn document(id: &str, title: &str, text: &str) -> Document {
    Document { id: id.to_owned(), title: title.to_owned(), text: text.to_owned() }
}

fn filled() -> (TempDir, Knowledge) {
    let dir = TempDir::new("orchestrator-knowledge").expect("made");
    let knowledge = Knowledge::create(dir.path()).expect("made");
    let returns = "Goods may be returned within thirty days.\n\nThe money is refunded to the card it came from.";
    knowledge.put(&document("returns", "Returning goods", returns)).expect("stored");
    let opening = "The shop opens at nine and closes at six.\nOn Sundays it is closed.";
    knowledge.put(&document("hours", "Opening hours", opening)).expect("stored");
    (dir, knowledge)
}

#[test]
fn an_answer_names_its_passage() {
    let (dir, knowledge) = filled();
    let found = knowledge.ask("When is money refunded for returned goods?").expect("asked").expect("known");
    assert_eq!((found.source.id.as_str(), found.source.passage), ("returns", 2));
    assert_eq!(found.matched, ["money", "refund", "return", "good"]);
    assert_eq!(found.text, "The money is refunded to the card it came from.");
    let reopened = Knowledge::open(dir.path()).expect("opened");
    let found = reopened.ask("At what hour does the shop open?").expect("asked").expect("known");
    assert_eq!(found.source.title, "Opening hours");
    assert_eq!(reopened.documents().expect("counted"), 2);
}

#[test]
fn what_is_not_known_is_not_answered() {
    let (_dir, knowledge) = filled();
    for question in ["What is the capital of France?", "How does the shop pay its taxes?", "money laundering abroad"] {
        assert_eq!(knowledge.ask(question).expect("asked"), None, "{question}");
    }
    for question in ["", "What is it?", "?!"] {
        assert!(matches!(knowledge.ask(question), Err(KnowledgeError::Unfit(_))), "{question}");
    }
}

#[test]
fn a_document_replaces_the_one_of_its_id() {
    let (dir, knowledge) = filled();
    for _ in 0..2 {
        let passages =
            knowledge.put(&document("returns", "Returning goods", "Goods are never returned.")).expect("stored");
        assert_eq!((passages, knowledge.documents().expect("counted")), (1, 2));
    }
    assert_eq!(knowledge.ask("Is money refunded?").expect("asked"), None);
    assert!(matches!(knowledge.put(&document("x", "Empty", " \n\n ")), Err(KnowledgeError::Unfit(_))));
    assert!(matches!(knowledge.put(&document("", "Empty", "x")), Err(KnowledgeError::Unfit(_))));
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(Knowledge::open(&nowhere), Err(KnowledgeError::Missing(_))));
}

#[test]
fn writers_wait_for_each_other() {
    let (dir, _knowledge) = filled();
    let write = |number: usize| {
        let path = dir.path().to_owned();
        std::thread::spawn(move || {
            let knowledge = Knowledge::create(&path).expect("opened");
            knowledge.put(&document(&format!("n{number}"), "Number", &format!("It is {number}."))).expect("stored");
        })
    };
    let writers: Vec<_> = (0..4).map(write).collect();
    writers.into_iter().for_each(|writer| writer.join().expect("stored"));
    assert_eq!(Knowledge::open(dir.path()).expect("opened").documents().expect("counted"), 6);
}

#[test]
fn a_long_passage_is_cut() {
    let long = "é".repeat(PASSAGE_MAX + 1);
    let parts = passages(&format!("one\ntwo\n\n\n{long}\n"));
    assert_eq!(parts.iter().map(|part| part.chars().count()).collect::<Vec<_>>(), [7, PASSAGE_MAX, 1]);
}
