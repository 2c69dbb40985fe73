//! Changes of triggers in the midst of looks, each at the moment that a test chooses: a fake provider holds looks until
//! they are let go. Whatever meets, what is put after a change was made is told, and told once.

use super::stage::{FOLDER, Stage};
use crate::world::triggers::{at_rest, name};
use crate::world::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_waited_for_its_turn_tells_nothing_to_who_was_paused_meanwhile() {
    let mut stage = Stage::set().await;
    stage.take_all_places().await;
    stage.make("late", FOLDER, "").await;
    stage.due("late").await;
    stage.pause("late").await;
    stage.put("first");
    stage.give_back_all_places();
    let told = stage.told(&[("steady", "first")]).await;
    assert_eq!(told, [(name("steady"), "first".to_owned())]);
    stage.put("second");
    stage.nudge("steady").await;
    let told = stage.told(&[("steady", "second")]).await;
    assert_eq!(told, [(name("steady"), "second".to_owned())]);
    stage.resume("late").await;
    let told = stage.told(&[("late", "first"), ("late", "second")]).await;
    assert_eq!(told.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_waited_for_its_turn_passes_over_nothing_that_a_changed_trigger_wants() {
    let mut stage = Stage::set().await;
    stage.take_all_places().await;
    stage.make("late", FOLDER, "nothing").await;
    stage.due("late").await;
    stage.filter("late", "thing").await;
    stage.put("a thing");
    stage.give_back_all_places();
    stage.told(&[("steady", "a thing"), ("late", "a thing")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_trigger_in_the_midst_of_a_look_loses_nothing() {
    let mut stage = Stage::set().await;
    let changes = ["pause", "filter", "again", "make", "leave"];
    for id in changes.into_iter().filter(|id| *id != "make") {
        stage.make(id, FOLDER, if id == "filter" { "x" } else { "" }).await;
        stage.looked(id).await;
    }
    stage.put("0 x");
    stage.nudge("steady").await;
    let all = [("pause", "0 x"), ("filter", "0 x"), ("again", "0 x"), ("leave", "0 x"), ("steady", "0 x")];
    stage.told(&all).await;

    // The look sees what was put before, and ends when all has been changed.
    stage.put("1");
    stage.begin_a_look().await;
    stage.pause("pause").await;
    stage.filter("filter", "").await;
    stage.delete("again").await;
    stage.delete("leave").await;
    stage.make("again", FOLDER, "").await;
    stage.make("make", FOLDER, "").await;
    stage.resume("pause").await;
    stage.put("2");
    stage.fake.state.watching.let_go(FOLDER);
    let mut expected: Vec<_> = changes[..4].iter().map(|id| (*id, "2")).collect();
    expected.extend([("steady", "1"), ("steady", "2"), ("pause", "1")]);
    let told = stage.told(&expected).await;
    assert!(!told.iter().any(|(trigger, _)| *trigger == name("leave")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_the_midst_of_a_look_keeps_the_place_before_it() {
    let mut stage = Stage::set().await;
    stage.make("pauses", FOLDER, "").await;
    stage.looked("pauses").await;
    stage.put("0");
    stage.nudge("steady").await;
    stage.told(&[("steady", "0"), ("pauses", "0")]).await;
    stage.put("1");
    stage.begin_a_look().await;
    stage.pause("pauses").await;
    stage.fake.state.watching.let_go(FOLDER);
    let told = stage.told(&[("steady", "1")]).await;
    assert_eq!(told.len(), 1, "who is paused is told nothing: {told:?}");
    stage.resume("pauses").await;
    stage.told(&[("pauses", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_midst_of_a_look_loses_nothing() {
    let mut stage = Stage::set().await;
    stage.put("1");
    stage.begin_a_look().await;
    stage.make("late", FOLDER, "").await;
    stage.put("2");
    stage.restart().await;
    stage.fake.state.watching.let_go(FOLDER);
    stage.told(&[("steady", "1"), ("steady", "2"), ("late", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_catch_up_holds_up_nobody_else_and_is_told_when_it_can() {
    let mut stage = Stage::set().await;
    for id in ["early", "later"] {
        stage.make(id, FOLDER, if id == "early" { "e" } else { "" }).await;
        stage.looked(id).await;
    }
    stage.put("one");
    stage.nudge("steady").await;
    stage.told(&[("steady", "one"), ("early", "one"), ("later", "one")]).await;
    stage.pause("early").await;
    stage.put("one more");
    stage.nudge("steady").await;
    stage.told(&[("steady", "one more"), ("later", "one more")]).await;
    stage.pause("later").await;
    stage.put("the last");
    stage.nudge("steady").await;
    stage.told(&[("steady", "the last")]).await;
    // The place of the one that is refused comes first.
    stage.fake.state.watching.refuse("e");
    stage.resume("early").await;
    stage.resume("later").await;
    stage.told(&[("later", "the last")]).await;
    until("the failure shows", || async { stage.status("early").await.last_failure }).await;
    stage.fake.state.watching.allow("e");
    stage.nudge("steady").await;
    stage.told(&[("early", "one more"), ("early", "the last")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_failed_is_made_again_long_before_the_interval_is_out() {
    let mut stage = Stage::set().await;
    stage.fake.state.watching.refuse("");
    stage.put("thing");
    stage.nudge("steady").await;
    until("the failure shows", || async { stage.status("steady").await.last_failure }).await;
    stage.fake.state.watching.allow("");
    stage.told(&[("steady", "thing")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_much_is_told_is_told_though_its_nudge_came_too_early() {
    let mut stage = Stage::set().await;
    for thing in ["1", "2", "3", "4"] {
        stage.put(thing);
    }
    stage.begin_a_look().await;
    // The first of the two looks that these take is being made: neither sees what comes now.
    stage.put("late");
    stage.nudge("steady").await;
    stage.fake.state.watching.let_go(FOLDER);
    stage.told(&[("steady", "4"), ("steady", "late")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_catches_up_by_several_looks_is_told_what_comes_between_them() {
    let mut stage = Stage::set().await;
    stage.make("behind", FOLDER, "").await;
    stage.looked("behind").await;
    stage.put("0");
    stage.nudge("steady").await;
    stage.told(&[("steady", "0"), ("behind", "0")]).await;
    stage.pause("behind").await;
    for thing in ["1", "2", "3", "4"] {
        stage.put(thing);
    }
    stage.nudge("steady").await;
    stage.told(&[("steady", "4")]).await;
    at_rest(&stage.channel, "steady").await;
    stage.fake.state.watching.hold(FOLDER);
    let mut begun = stage.fake.state.watching.looks(FOLDER);
    stage.resume("behind").await;
    // Look by look, with something new before each.
    for thing in ["5", "6", "7", "8", "9", "10"] {
        stage.fake.state.watching.begun(FOLDER, begun + 1).await;
        begun += 1;
        stage.put(thing);
        stage.nudge("steady").await;
        stage.fake.state.watching.let_one_go(FOLDER);
    }
    stage.fake.state.watching.let_go(FOLDER);
    let things = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
    let expected: Vec<_> = things.iter().map(|thing| ("behind", *thing)).collect();
    stage.told(&expected).await;
}
