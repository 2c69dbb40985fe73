//! Contacts and their folders: listed, made once, changed only where named, deleted.

use http::Method;
use postern_proto::mail::v1::Mailbox;
use postern_proto::outlook::v1::{
    Contact, CreateContactRequest, DeleteContactRequest, GetContactFoldersRequest, GetContactRequest,
    GetContactsRequest, GetContactsResponse, PhysicalAddress, UpdateContactRequest,
};
use postern_sandbox::graph::Fault;
use serde_json::json;
use tonic::{Code, Status};

use super::agenda::{inner, refusal, wrong_fields};
use super::stage::{ANN, BO, Stage};

fn any() -> GetContactsRequest {
    GetContactsRequest::default()
}

fn full() -> Contact {
    let text = |text: &str| text.to_owned();
    let place = |city: &str| {
        Some(PhysicalAddress {
            street: text("1 Way"),
            city: text(city),
            state: text("S"),
            country_or_region: text("C"),
            postal_code: text("12345"),
        })
    };
    Contact {
        categories: vec![text("Blue")],
        birthday: text("1980-12-24"),
        file_as: text("Lee, Cy"),
        display_name: text("Cy Lee"),
        given_name: text("Cy"),
        initials: text("C.L."),
        middle_name: text("M"),
        nick_name: text("C"),
        surname: text("Lee"),
        title: text("Dr."),
        yomi_given_name: text("sai"),
        yomi_surname: text("rii"),
        yomi_company_name: text("kontoso"),
        generation: text("Jr."),
        email_addresses: vec![Mailbox { address: text("cy@x.example"), name: text("Cy") }],
        im_addresses: vec![text("sip:cy@x.example")],
        job_title: text("Builder"),
        company_name: text("Contoso"),
        department: text("Works"),
        office_location: text("1.23"),
        profession: text("Engineer"),
        business_home_page: text("https://x.example"),
        assistant_name: text("Di"),
        manager: text("Ed"),
        home_phones: vec![text("1"), text("2")],
        mobile_phone: text("3"),
        business_phones: vec![text("4")],
        home_address: place("Bonn"),
        business_address: place("Berlin"),
        other_address: place("Ulm"),
        spouse_name: text("Flo"),
        personal_notes: text("notes"),
        children: vec![text("Gil")],
        ..Contact::default()
    }
}

fn named(surname: &str) -> Contact {
    Contact { surname: surname.into(), ..Contact::default() }
}

async fn get(stage: &Stage, asked: GetContactsRequest) -> Result<GetContactsResponse, Status> {
    Ok(stage.contacts().get_contacts(stage.with_connection(asked)).await?.into_inner())
}

async fn surnames(stage: &Stage, asked: GetContactsRequest) -> Vec<String> {
    get(stage, asked).await.unwrap().contacts.into_iter().map(|contact| contact.surname).collect()
}

#[tokio::test]
async fn a_contact_comes_back_as_it_was_made() {
    let stage = Stage::set().await;
    let made = stage.create_contact("", full()).await.unwrap();
    let expected = Contact {
        id: made.id.clone(),
        parent_folder_id: made.parent_folder_id.clone(),
        date_time_created: made.date_time_created,
        date_time_last_modified: made.date_time_last_modified,
        change_key: made.change_key.clone(),
        ..full()
    };
    assert_eq!(made, expected);
    assert!(
        made.date_time_created.is_some() && !made.change_key.is_empty() && !made.parent_folder_id.is_empty()
    );
    let asked = GetContactRequest { id: made.id.clone(), ..GetContactRequest::default() };
    let got = inner(stage.contacts().get_contact(stage.with_connection(asked)).await);
    assert_eq!(got.contact, Some(made.clone()));
    assert_eq!(get(&stage, any()).await.unwrap().contacts, [made]);
}

#[tokio::test]
async fn folders_are_listed_from_the_default_one_down_to_those_within() {
    let stage = Stage::set().await;
    let family = stage.world.add_contact_folder(ANN, None, "Family").unwrap();
    let close = stage.world.add_contact_folder(ANN, Some(&family), "Close").unwrap();
    stage.world.add_contact_folder(ANN, None, "Trade").unwrap();
    let asked = GetContactFoldersRequest::default();
    let folders =
        inner(stage.contacts().get_contact_folders(stage.with_connection(asked.clone())).await).folders;
    let names: Vec<_> =
        folders.iter().map(|folder| (folder.display_name.as_str(), folder.is_default)).collect();
    assert_eq!(names, [("Contacts", true), ("Family", false), ("Close", false), ("Trade", false)]);
    assert_eq!((&folders[2].id, &folders[2].parent_folder_id), (&close, &family));
    let request =
        CreateContactRequest { table: close.clone(), item: Some(named("Within")), ..Default::default() };
    let made = inner(stage.contacts().create_contact(stage.with_connection(request)).await).contact.unwrap();
    assert_eq!(made.parent_folder_id, close);
    assert_eq!(surnames(&stage, GetContactsRequest { table: close, ..any() }).await, ["Within"]);
    assert!(surnames(&stage, any()).await.is_empty());
    // A Graph that does not take the default folder's name: a contact in it tells its id.
    let unknown = Fault::refuse(400, "ErrorInvalidIdMalformed", None);
    stage.graph.faults().plan(Some(Method::GET), "/contactFolders/contacts?", 2, unknown);
    let told =
        inner(stage.contacts().get_contact_folders(stage.with_connection(asked.clone())).await).folders;
    assert_eq!((told[0].is_default, told[0].id.as_str()), (true, "contacts"));
    stage.create_contact("", named("x")).await.unwrap();
    let told = inner(stage.contacts().get_contact_folders(stage.with_connection(asked)).await).folders;
    assert_eq!((told[0].is_default, &told[0].id), (true, &folders[0].id));
}

#[tokio::test]
async fn a_list_goes_on_by_token_in_the_order_that_was_asked_for() {
    let stage = Stage::set().await;
    for name in ["d", "a", "c", "b", "e"] {
        stage.create_contact("", named(name)).await.unwrap();
    }
    let mut asked = GetContactsRequest { order_by: "surname".into(), skip: 1, top: 2, ..any() };
    let mut told = Vec::new();
    loop {
        let answer = get(&stage, asked.clone()).await.unwrap();
        told.extend(answer.contacts.into_iter().map(|contact| contact.surname));
        if answer.skip_token.is_empty() {
            break;
        }
        asked.skip_token = answer.skip_token;
    }
    assert_eq!(told, ["b", "c", "d", "e"]);
    let filtered =
        GetContactsRequest { filter: "surname gt 'c'".into(), order_by: "surname desc".into(), ..any() };
    assert_eq!(surnames(&stage, filtered).await, ["e", "d"]);
    for (asked, field) in [
        (GetContactsRequest { filter: "shoe eq 3".into(), ..any() }, "filter"),
        (GetContactsRequest { order_by: "shoe".into(), ..any() }, "order_by"),
        (GetContactsRequest { top: -1, ..any() }, "top"),
        (GetContactsRequest { skip_token: asked.skip_token.clone(), ..any() }, "skip_token"),
    ] {
        assert_eq!(wrong_fields(get(&stage, asked)).await, [field]);
    }
    let nowhere = GetContactsRequest { table: "AAMkX".into(), ..any() };
    assert_eq!(refusal(get(&stage, nowhere)).await, (Code::NotFound, "FOLDER_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_contact_is_made_once_however_often_it_is_asked_for() {
    let stage = Stage::set().await;
    stage.graph.faults().plan(Some(Method::POST), "/contacts", 1, Fault::CutAfter);
    let first = stage.create_contact("r1", full()).await.unwrap();
    assert_eq!(stage.create_contact("r1", full()).await.unwrap(), first);
    // Turned away before anything was made: it is made all the same.
    stage.graph.faults().plan(Some(Method::POST), "/contacts", 1, Fault::refuse(503, "Busy", None));
    let second = stage.create_contact("r2", full()).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(stage.world.contacts(ANN).len(), 2);
    // Without a request id nothing tells whether it was made.
    stage.graph.faults().plan(Some(Method::POST), "/contacts", 1, Fault::CutAfter);
    let expected = (Code::Unknown, "OUTCOME_UNKNOWN".to_owned());
    assert_eq!(refusal(stage.create_contact("", full())).await, expected);
    assert_eq!(stage.world.contacts(ANN).len(), 3);
    // With one it may be asked for again, though nothing came of it for long.
    stage.graph.faults().plan(Some(Method::POST), "/contacts", 3, Fault::Cut);
    let expected = (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned());
    assert_eq!(refusal(stage.create_contact("r3", full())).await, expected);
    stage.create_contact("r3", full()).await.unwrap();
    assert_eq!(stage.world.contacts(ANN).len(), 4);
}

#[tokio::test]
async fn a_change_touches_what_is_named_and_nothing_else() {
    let stage = Stage::set().await;
    let made = stage.create_contact("", full()).await.unwrap();
    let item = Contact { title: "Prof.".into(), manager: "not named".into(), ..Contact::default() };
    let names = ["title", "home_phones", "home_address", "birthday", "email_addresses"];
    let changed = stage.update_contact(&made.id, item, &names).await.unwrap();
    let expected = Contact {
        title: "Prof.".into(),
        home_phones: Vec::new(),
        home_address: None,
        birthday: String::new(),
        email_addresses: Vec::new(),
        change_key: changed.change_key.clone(),
        date_time_last_modified: changed.date_time_last_modified,
        ..made.clone()
    };
    assert_eq!(changed, expected);
    let sent = stage.bodies("PATCH").pop().unwrap();
    assert_eq!(
        sent,
        json!({"title": "Prof.", "homePhones": [], "homeAddress": {}, "birthday": null, "emailAddresses": []})
    );
    let changed = stage.update_contact(&made.id, named("New"), &[]).await.unwrap();
    assert_eq!((changed.surname.as_str(), changed.title.as_str()), ("New", "Prof."));
    let wrong = stage.update_contact(&made.id, named("x"), &["id", "surname.x"]);
    assert_eq!(wrong_fields(wrong).await, ["update_mask.paths[0]", "update_mask.paths[1]"]);
    let birthday = Contact { birthday: "1980-02-30".into(), ..Contact::default() };
    assert_eq!(wrong_fields(stage.update_contact(&made.id, birthday, &[])).await, ["item.birthday"]);
}

#[tokio::test]
async fn a_change_of_what_has_changed_since_is_refused_and_one_whose_answer_was_lost_is_not() {
    let stage = Stage::set().await;
    let made = stage.create_contact("", full()).await.unwrap();
    let item = |surname: &str, key: &str| Contact { change_key: key.into(), ..named(surname) };
    stage.graph.faults().plan(Some(Method::PATCH), "/contacts/", 1, Fault::CutAfter);
    let first = stage.update_contact(&made.id, item("1", &made.change_key), &[]).await.unwrap();
    assert_eq!(first.surname, "1");
    let expected = (Code::Aborted, "ITEM_CHANGED".to_owned());
    assert_eq!(refusal(stage.update_contact(&made.id, item("2", &made.change_key), &[])).await, expected);
    let refused = Fault::refuse(412, "ErrorIrresolvableConflict", None);
    stage.graph.faults().plan(Some(Method::PATCH), "/contacts/", 1, refused);
    assert_eq!(refusal(stage.update_contact(&made.id, item("3", &first.change_key), &[])).await, expected);
}

#[tokio::test]
async fn a_contact_is_deleted_and_one_that_is_not_there_is_told() {
    let stage = Stage::set().await;
    let made = stage.create_contact("", full()).await.unwrap();
    let delete = |table: &str, id: &str, mailbox: &str| {
        let asked = DeleteContactRequest {
            table: table.into(),
            id: id.into(),
            mailbox: mailbox.into(),
            ..DeleteContactRequest::default()
        };
        let (mut contacts, request) = (stage.contacts(), stage.with_connection(asked));
        async move { contacts.delete_contact(request).await.map(drop) }
    };
    let item = (Code::NotFound, "ITEM_NOT_FOUND".to_owned());
    let folder = (Code::NotFound, "FOLDER_NOT_FOUND".to_owned());
    assert_eq!(refusal(delete("AAMkX", &made.id, "")).await, folder);
    assert_eq!(refusal(delete("", &made.id, BO)).await, item);
    stage.graph.faults().plan(Some(Method::DELETE), "/contacts/", 1, Fault::CutAfter);
    delete(&made.parent_folder_id, &made.id, "").await.unwrap();
    assert_eq!(refusal(delete("", &made.id, "")).await, item);
    assert_eq!(wrong_fields(delete("", "", "")).await, ["id"]);
    assert!(stage.world.contacts(ANN).is_empty());
}

#[tokio::test]
async fn a_repeat_finds_that_the_change_was_made_and_then_that_the_contact_is_gone() {
    let stage = Stage::set().await;
    let made = stage.create_contact("", full()).await.unwrap();
    let change = |surname: &str| UpdateContactRequest {
        id: made.id.clone(),
        item: Some(Contact { change_key: made.change_key.clone(), ..named(surname) }),
        ..UpdateContactRequest::default()
    };
    let first = inner(stage.contacts().update_contact(stage.with_connection(change("New"))).await);
    assert_eq!(inner(stage.contacts().update_contact(stage.as_repeat(change("New"))).await), first);
    let changed = (Code::Aborted, "ITEM_CHANGED".to_owned());
    assert_eq!(refusal(stage.contacts().update_contact(stage.as_repeat(change("Other")))).await, changed);
    let asked = || DeleteContactRequest { id: made.id.clone(), ..DeleteContactRequest::default() };
    inner(stage.contacts().delete_contact(stage.with_connection(asked())).await);
    inner(stage.contacts().delete_contact(stage.as_repeat(asked())).await);
}
