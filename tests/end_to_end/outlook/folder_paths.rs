//! Folder paths: what is remembered of a folder never leads to another one than the path does now.

use postern_chassis::fault::reason_of;
use postern_proto::outlook::v1::GetEmailsRequest;

use super::stage::{ANN, Stage};

fn within(path: &str) -> GetEmailsRequest {
    GetEmailsRequest { folder_path: path.into(), ..GetEmailsRequest::default() }
}

/// A folder at a path with a mail in it.
fn folder(stage: &Stage, path: &[&str], subject: &str) -> String {
    let folder = stage.world.add_folder(ANN, path).unwrap();
    let id = stage.deliver(subject);
    assert!(stage.world.move_message(ANN, &id, &folder));
    folder
}

#[tokio::test]
async fn a_folder_that_was_renamed_is_found_by_its_new_name_only() {
    let stage = Stage::set().await;
    let clients = folder(&stage, &["Clients"], "old");
    assert_eq!(stage.subjects(within("Clients")).await, ["old"]);
    stage.world.edit_folder(ANN, &clients, |folder| folder.display_name = "Former clients".into());
    assert_eq!(reason_of(&stage.get_emails(within("Clients")).await.unwrap_err()), "FOLDER_NOT_FOUND");
    assert_eq!(stage.subjects(within("Former clients")).await, ["old"]);
    folder(&stage, &["Clients"], "new");
    assert_eq!(stage.subjects(within("Clients")).await, ["new"]);
}

#[tokio::test]
async fn a_folder_that_took_anothers_name_is_the_one_that_is_listed() {
    let stage = Stage::set().await;
    let clients = folder(&stage, &["Clients", "2026"], "old");
    assert_eq!(stage.subjects(within("Clients/2026")).await, ["old"]);
    stage.world.edit_folder(ANN, &clients, |folder| folder.display_name = "2025".into());
    folder(&stage, &["Clients", "2026"], "new");
    assert_eq!(stage.subjects(within("Clients/2026")).await, ["new"]);
    assert_eq!(stage.subjects(within("Clients/2025")).await, ["old"]);
}

#[tokio::test]
async fn a_folder_that_was_moved_is_found_where_it_is() {
    let stage = Stage::set().await;
    let moved = folder(&stage, &["Here", "Clients"], "moved");
    let there = stage.world.add_folder(ANN, &["There"]).unwrap();
    assert_eq!(stage.subjects(within("Here/Clients")).await, ["moved"]);
    stage.world.edit_folder(ANN, &moved, |folder| folder.parent = there);
    assert_eq!(reason_of(&stage.get_emails(within("Here/Clients")).await.unwrap_err()), "FOLDER_NOT_FOUND");
    assert_eq!(stage.subjects(within("There/Clients")).await, ["moved"]);
}

#[tokio::test]
async fn a_folder_that_was_deleted_and_made_again_is_found_again() {
    let stage = Stage::set().await;
    let old = folder(&stage, &["Clients"], "old");
    assert_eq!(stage.subjects(within("Clients")).await, ["old"]);
    assert!(stage.world.delete_folder(ANN, &old));
    folder(&stage, &["Clients"], "new");
    assert_eq!(stage.subjects(within("Clients")).await, ["new"]);
}

#[tokio::test]
async fn a_hidden_folder_and_one_among_hundreds_are_found() {
    let stage = Stage::set().await;
    let hidden = folder(&stage, &["Hidden"], "hidden");
    stage.world.edit_folder(ANN, &hidden, |folder| folder.is_hidden = true);
    for number in 0..250 {
        stage.world.add_folder(ANN, &["Many", &format!("Folder {number}")]).unwrap();
    }
    folder(&stage, &["Many", "folder \"last\" & 'least'"], "last");
    assert_eq!(stage.subjects(within("Hidden")).await, ["hidden"]);
    assert_eq!(stage.subjects(within("Many/folder \"last\" & 'least'")).await, ["last"]);
    assert_eq!(stage.subjects(within("msgfolderroot/Hidden")).await, ["hidden"]);
}

#[tokio::test]
async fn a_folder_that_differs_in_case_alone_does_not_hide_the_one_that_is_meant() {
    let stage = Stage::set().await;
    folder(&stage, &["clients"], "small");
    folder(&stage, &["Clients"], "large");
    assert_eq!(stage.subjects(within("Clients")).await, ["large"]);
    assert_eq!(stage.subjects(within("clients")).await, ["small"]);
}
