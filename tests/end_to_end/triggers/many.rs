//! More triggers on one watch than one commit writes: they join, catch up and tell all the same.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures_util::{StreamExt as _, stream};
use postern_gateway::store::MAX_WRITES;
use postern_proto::event::v1::{ListTriggersRequest, Trigger};

use super::stage::{FOLDER, Stage};
use crate::world::{OUTLOOK, until};

/// Each is a write of its own while it joins its watch or tells of something.
const MANY: usize = MAX_WRITES + 50;
/// How many are made at once.
const AT_ONCE: usize = 32;

fn ids() -> Vec<String> {
    (0..MANY).map(|number| format!("many-{number}")).collect()
}

/// A stage on which the looks are held, with one that has begun, and a trigger looked at before: `first` is put before
/// the others are made, where that is asked for.
async fn held_with_many(first: Option<&str>) -> Stage {
    let stage = Stage::set().await;
    first.into_iter().for_each(|thing| stage.put(thing));
    stage.begin_a_look().await;
    let ids = ids();
    stream::iter(&ids).map(|id| stage.make(id, FOLDER, "")).buffer_unordered(AT_ONCE).collect::<()>().await;
    stage
}

/// Waits until each of the triggers has told of something.
async fn all_tell(stage: &mut Stage, thing: &str) {
    let ids = ids();
    let expected: Vec<_> = ids.iter().map(|id| (id.as_str(), thing)).collect();
    stage.told(&expected).await;
}

async fn listed(stage: &Stage) -> BTreeMap<String, Trigger> {
    let request = ListTriggersRequest { connection: OUTLOOK.into(), page_size: 1_000, ..Default::default() };
    let listed = stage.triggers().list_triggers(request).await.unwrap().into_inner().triggers;
    listed.into_iter().map(|trigger| (trigger.name.clone(), trigger)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_triggers_than_one_commit_writes_join_their_watch_and_tell_of_one_thing() {
    let mut stage = held_with_many(None).await;
    stage.put("first");
    stage.fake.state.watching.let_go(FOLDER);
    all_tell(&mut stage, "first").await;
    // Now that all go with the watch, one look tells for all of them.
    let before = SystemTime::now();
    stage.put("second");
    stage.nudge("steady").await;
    all_tell(&mut stage, "second").await;
    // And each shows when.
    until("each has told since", || async {
        let listed = listed(&stage).await;
        assert_eq!(listed.len(), MANY + 1);
        let has_told = |trigger: &Trigger| {
            let last = trigger.status.as_ref().and_then(|status| status.last_event_time);
            last.is_some_and(|last| SystemTime::try_from(last).unwrap() >= before)
        };
        listed.values().all(has_told).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_triggers_than_one_commit_writes_catch_up_from_one_place() {
    // The look that is under way moves the watch past where all of them begin.
    let mut stage = held_with_many(Some("first")).await;
    stage.fake.state.watching.let_go(FOLDER);
    all_tell(&mut stage, "first").await;
    stage.put("second");
    stage.nudge("steady").await;
    all_tell(&mut stage, "second").await;
}
