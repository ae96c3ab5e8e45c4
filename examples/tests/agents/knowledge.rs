//! `kb_update` and `faq` as tasks.

use orchestrator_examples::faq::{Faq, faq};
use orchestrator_examples::kb_update::{KbUpdate, kb_update};
use orchestrator_examples::knowledge::Document;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_worker::Status;

use crate::begin;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_is_answered_with_its_source() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-kb").expect("made");
    let kb = dir.path().join("kb");
    let ask = |question: &str| faq::with(Faq { kb: kb.clone(), question: question.to_owned() });
    // Nothing there yet, which may change: another attempt would be fair.
    let early = orch.enqueue(ask("Where is the key?").max_retries(0)).await.expect("submitted");
    let error = early.result().await.expect_err("nothing there");
    assert!(error.to_string().contains("no knowledge base at"), "{error}");

    let token = format!("{:016x}", rand::random::<u64>());
    let text = format!("The key of the workshop hangs in the office.\n\nThe alarm code is {token}.");
    let documents = [("keys", "Keys", text.as_str()), ("tea", "Tea", "There is tea at four.")];
    let updates = documents.map(|(id, title, text)| {
        let document = Document { id: id.into(), title: title.into(), text: text.into() };
        kb_update::with(KbUpdate { kb: kb.clone(), document })
    });
    for handle in orch.enqueue_all(updates).await.expect("submitted") {
        assert!(handle.result().await.expect("stored").passages > 0);
    }
    let asked = orch.enqueue(ask("What's the alarm code?")).await.expect("submitted");
    let (mut words, mut chunks) = (String::new(), asked.chunks());
    while let Some(chunk) = chunks.next().await.expect("the words, as they come") {
        words += chunk.data.as_text().expect("a word");
    }
    let reply = asked.result().await.expect("answered");
    assert_eq!(words, reply.words);
    let passage = reply.passage.expect("known");
    assert_eq!((passage.source.id.as_str(), passage.source.passage, reply.documents), ("keys", 2, 2));
    assert_eq!(passage.text, format!("The alarm code is {token}."));
    assert!(
        reply.words.contains(&token) && reply.words.contains("\"Keys\", document keys, passage 2"),
        "{}",
        reply.words
    );
    let strange =
        orch.enqueue(ask("Who painted the ceiling?")).await.expect("submitted").result().await.expect("answered");
    assert_eq!((strange.passage, strange.words.contains("Nothing in the knowledge base")), (None, true));
    let empty = orch.enqueue(ask("What is it?")).await.expect("submitted");
    empty.result().await.expect_err("about nothing");
    let task = empty.task().await.expect("known");
    assert_eq!((task.status, task.attempt, task.reason.as_deref()), (Status::Failed, 1, Some("fatal")));
    stop.drain();
}
