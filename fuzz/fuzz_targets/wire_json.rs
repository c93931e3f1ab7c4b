//! Any bytes as the JSON body of a call: read or refused, never a panic, and what is read is read the same once more.
#![no_main]

use inborn_wire::error::{Dialect, Problem, answer};
use inborn_wire::json::{DEPTH_MAX, Object, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let object = match decode(body) {
        Ok(object) => object,
        Err(error) => {
            let refusal = answer(&Problem::Json(error), Dialect::AwsJson11, "id");
            assert_eq!(refusal.status, 400);
            return;
        }
    };
    look(&object, DEPTH_MAX);
    let written = serde_json::to_vec(object.members()).expect("what was read can be written");
    let again = decode(&written).expect("what was written can be read");
    assert_eq!(again.members().len(), object.members().len());
    assert!(again.members().keys().eq(object.members().keys()));
});

/// Asks each member for everything that it may be.
fn look(object: &Object, levels: usize) {
    assert!(levels > 0, "no deeper than the limit");
    for key in object.members().keys() {
        let is_null = object.members().get(key).is_some_and(serde_json::Value::is_null);
        let kinds = [
            object.text(key).is_ok(),
            object.integer(key).is_ok(),
            object.boolean(key).is_ok(),
            object.object(key).is_ok(),
            object.texts(key).is_ok(),
        ];
        let count = kinds.iter().filter(|is_one| **is_one).count();
        assert!(if is_null { count == kinds.len() } else { count <= 1 }, "{kinds:?}");
        if let Ok(Some(inner)) = object.object(key) {
            look(&inner, levels - 1);
        }
    }
}
