//! Parts of the script that no mail program can be made to reach, called inside Dovecot.

use postbell_testkit::{ALICE, Error, Extent, Options};
use serde_json::Value;

use crate::spool::Bench;

/// postbell's script.
pub(crate) const SCRIPT: &str = include_str!("../../../../integrations/dovecot/postbell.lua");

/// Runs `lua` with the script's own functions at the next login; `out` is what it writes to.
pub(crate) fn run(lua: &str) -> Result<Option<(Bench, String)>, Error> {
    let options =
        |notify| Options { notify: Some(notify), extent: Extent::Plain, ..Options::default() };
    let Some(bench) = Bench::start(options)? else { return Ok(None) };
    let script = bench.dovecot.configuration().with_file_name("postbell.lua");
    let text = format!(
        "{SCRIPT}\nfunction mail_user_created(user)\n\
         local out = open(user:plugin_getenv('postbell_spool') .. '/out', 'w')\n\
         local ok, why = pcall(function()\n{lua}\nend)\n\
         if not ok then out:write('failed: ' .. tostring(why)) end\n\
         out:close()\nreturn 0\nend\n"
    );
    std::fs::write(script, text).unwrap();
    drop(bench.dovecot.imap(ALICE)?);
    let out = std::fs::read_to_string(bench.spool().join("out")).unwrap();
    assert!(!out.contains("failed: "), "{out}");
    Ok(Some((bench, out)))
}

#[test]
fn any_octets_become_json() -> Result<(), Error> {
    let cases: &[(&str, &str)] = &[
        (r"plain", "plain"),
        (r"Größe", "Größe"),
        (r"\34quoted\34 \92 slash", "\"quoted\" \\ slash"),
        (r"a\0b\1\9\10\13\31\127z", "a\0b\u{1}\t\n\r\u{1f}\u{7f}z"),
        (r"\xff", "\u{fffd}"),
        (r"caf\xe9 au lait", "caf\u{fffd} au lait"),
        (r"\xc3", "\u{fffd}"),
        (r"cut \xe2\x82", "cut \u{fffd}\u{fffd}"),
        (r"\xc0\xafoverlong", "\u{fffd}\u{fffd}overlong"),
        (r"half \xed\xa0\x80 pair", "half \u{fffd}\u{fffd}\u{fffd} pair"),
        (r"\xf4\x8f\xbf\xbf", "\u{10ffff}"),
        (r"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        (r"\xff\10\xff", "\u{fffd}\n\u{fffd}"),
    ];
    let lua: String =
        cases.iter().map(|(case, _)| format!("out:write(json(\"{case}\"), '\\n')\n")).collect();
    let Some((_bench, out)) = run(&lua)? else { return Ok(()) };
    let told: Vec<String> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<&str> = cases.iter().map(|(_, expected)| *expected).collect();
    assert_eq!(told, expected);
    Ok(())
}

#[test]
fn uid_sets_are_canonical_whatever_the_order() -> Result<(), Error> {
    let lua = "
        for _, uids in ipairs({ {7}, {1,2,3}, {3,1,2}, {5,5,5}, {1,3,5,6,7,9}, {4294967295,1} }) do
          local transaction = {}
          for _, uid in ipairs(uids) do
            add(transaction, 'set', { mailbox = 'a', uid = uid + 0.0, flags = { 'x' } })
          end
          out:write(concat(uid_sets(transaction[1]), ';'), '\\n')
        end";
    let Some((_bench, out)) = run(lua)? else { return Ok(()) };
    let told: Vec<&str> = out.lines().collect();
    assert_eq!(told, ["7", "1:3", "1:3", "5", "1,3,5:7,9", "1,4294967295"]);
    Ok(())
}

#[test]
fn a_transaction_of_any_size_is_told_in_lines_of_bounded_length() -> Result<(), Error> {
    let lua = "
        describe(user)
        local transaction = { user = user }
        for uid = 1, 600000, 2 do
          add(transaction, 'set', { mailbox = 'a', uid = uid + 0.0, flags = { '\\\\Seen' } })
        end
        commit(transaction)";
    let Some((bench, _)) = run(lua)? else { return Ok(()) };
    let mut uids = Vec::new();
    let lines = bench.lines();
    for (at, line) in lines.iter().enumerate() {
        assert!(line.len() < 1 << 20, "{}", line.len());
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["seq"], at + 1);
        for act in value["events"].as_array().unwrap().iter().filter(|act| act["e"] == "set") {
            let set = act["uids"].as_str().unwrap();
            uids.extend(set.split(',').map(|uid| uid.parse::<u32>().unwrap()));
        }
    }
    assert!(lines.len() > 2, "{}", lines.len());
    assert_eq!(uids, (1..600_000).step_by(2).collect::<Vec<_>>());
    Ok(())
}
