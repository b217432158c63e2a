use std::sync::Arc;

use super::*;
use crate::testing::shared;

/// A byte-level tokenizer with a few tokens: `h`, `i`, space, the two bytes of `é`, the four of `😀`, a special token, and a gap before the
/// last id.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
    "padding": null, "normalizer": null, "post_processor": null,
    "added_tokens": [{"id": 9, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    "model": {"type": "BPE", "merges": [], "vocab":
        {"h": 0, "i": 1, "Ġ": 2, "Ã": 3, "©": 4, "ð": 5, "Ł": 6, "ĺ": 7, "Ģ": 8, "<end>": 9, "x": 11}}}"#;

fn text(config: &str, template: Option<&str>) -> Result<Text> {
    Text::from_files(TextFiles {
        tokenizer: TOKENIZER.as_bytes(),
        tokenizer_config: Some(config.as_bytes()),
        chat_template: template.map(str::as_bytes),
    })
}

fn rendered(template: &str) -> Result<String> {
    let text = text("{}", Some(template))?.with_date("2024-07-26")?;
    text.render(&[Message::new("user", "a=b")], true)
}

#[test]
fn encode_maps_special_tokens_and_never_truncates() {
    let text = text("{}", None).unwrap();
    assert_eq!(text.encode("hi <end>é").unwrap(), [0, 1, 2, 9, 3, 4]);
    assert_eq!(text.vocabulary(), 12);
    assert_eq!((text.token_id("<end>"), text.token_id("nothing")), (Some(9), None));
    assert!(text.has_token(11) && !text.has_token(10) && !text.has_token(12));
}

#[test]
fn decode_accepts_any_ids() {
    let text = text("{}", None).unwrap();
    assert_eq!(text.decode(&[0, 9, 3, 4, 10, 4_000_000]).unwrap(), "hé");
    assert_eq!(text.decode(&[0, 5, 6]).unwrap(), "h\u{FFFD}");
    assert_eq!(text.decode(&[]).unwrap(), "");
}

#[test]
fn stream_pieces_are_whole_characters_and_join_to_the_text() {
    let text = text("{}", None).unwrap();
    let check = |ids: &[u32], pieces: &[&str], rest: &str| {
        let mut stream = text.stream();
        let got: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        let end = stream.finish().unwrap();
        assert_eq!((got.iter().map(String::as_str).collect::<Vec<_>>(), end.as_str()), (pieces.to_vec(), rest), "{ids:?}");
        assert_eq!(got.concat() + &end, text.decode(ids).unwrap(), "{ids:?}");
    };
    check(&[0, 1, 9, 2], &["h", "i", "", " "], "");
    check(&[3, 4, 0], &["", "é", "h"], "");
    check(&[0, 5, 6, 7, 8, 3, 4], &["h", "", "", "", "😀", "", "é"], "");
    check(&[0, 5, 6], &["h", "", ""], "\u{FFFD}");
    check(&[4, 0], &["", "\u{FFFD}h"], "");
    // Every sequence of five ids, valid or not.
    for number in 0..12_u32.pow(5) {
        let ids: Vec<u32> = (0..5).map(|position| number / 12_u32.pow(position) % 12).collect();
        let mut stream = text.stream();
        let joined: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        assert_eq!(joined + &stream.finish().unwrap(), text.decode(&ids).unwrap(), "{ids:?}");
    }
}

/// The expected values are from Python's jinja2 3.1.6 with trim_blocks, lstrip_blocks and loop controls, as in transformers.
#[test]
fn render_matches_transformers() {
    let check = |template: &str, expected: &str| assert_eq!(rendered(template).unwrap(), expected, "{template}");
    check(
        r#"{{ {'b': [1, 2.0, 'é<"'], 'a': {}, 'c': [], 'd': none, 'e': true} | tojson }}"#,
        r#"{"b": [1, 2.0, "é<\""], "a": {}, "c": [], "d": null, "e": true}"#,
    );
    check(
        "{{ {'b': [1, {'x': 2}], 'a': {}, 'c': []} | tojson(indent=2) }}",
        "{\n  \"b\": [\n    1,\n    {\n      \"x\": 2\n    }\n  ],\n  \"a\": {},\n  \"c\": []\n}",
    );
    check("{{ {'b': 'é😀', 'a': 1} | tojson(sort_keys=true, ensure_ascii=true) }}", r#"{"a": 1, "b": "\u00e9\ud83d\ude00"}"#);
    check("{{ [1,{'a':2}] | tojson(separators=(',', ':')) }}", r#"[1,{"a":2}]"#);
    check(
        "{% for x in [1,2,3,4] %}\n  {% if x == 2 %}{% continue %}{% endif %}\n  {% if x == 4 %}{% break %}{% endif %}\n{{ x }}\n{% endfor %}\n\
         {{ true }} {{ none }} {{ missing }}|\n",
        "1\n3\nTrue None |",
    );
    check("{{ ' a b '.strip().split(' ')[-1].upper() }} {{ strftime_now('%d %b %Y %A') }}", "B 26 Jul 2024 Friday");
    check("{{ strftime_now('%-d.%-m. %j %D %T') }}", "26.7. 208 07/26/24 00:00:00");
    check("{% generation %}\n a\n{%- endgeneration %}\nb{{ '{% generation %}' | length }}", " ab13");
    check("{{ messages[0].content.split('=')[1] }}{{ 7 // 2 }}{{ 'abc'[::-1] }}{{ messages[0].tool_calls is defined }}", "b3cbaFalse");
    check("{{ tools is none }}{{ bos_token is defined }}{{ '<&>' }}", "TrueFalse<&>");
}

#[test]
fn render_errors_are_one_line() {
    let check = |template: &str, expected: &str| {
        let error = format!("{:#}", rendered(template).unwrap_err());
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    check("{{ raise_exception('Roles must alternate') }}", "Roles must alternate (line 1 of the template)");
    check("line\n{% if %}", "(line 2 of the template)");
    check("{{ messages[0].nothing.deeper }}", "cannot render");
    check("{{ strftime_now('%Q') }}", "strftime_now does not support %Q");
    let error = text("{}", None).unwrap().render(&[], true).unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja"), "{error}");
    assert!(text("{}", Some("x")).unwrap().with_date("2023-02-29").is_err());
}

#[test]
fn render_stops_templates_that_do_not_end_or_grow_too_large() {
    let check = |template: &str, expected: &str| {
        let error = format!("{:#}", rendered(template).unwrap_err());
        assert!(error.contains(expected) && error.lines().count() == 1 && error.len() < 400, "{template}: {error}");
    };
    let no_end = "it does not end";
    check("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", no_end);
    check("{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}", "recursion");
    let (bytes, items) = ("4194304 bytes", "100000 items");
    let doubled = |change: &str| format!("{{% set ns = namespace(x='ab', y='') %}}{{% for i in range(64) %}}{change}{{% endfor %}}");
    check(&doubled("{% set ns.x = ns.x ~ ns.x %}"), bytes);
    check(&doubled("{% set ns.x = ns.x + ns.x %}"), bytes);
    check(&doubled("{% set ns.x = ns.x * 7 %}"), bytes);
    check(&doubled("{% set ns.x = ns.x | replace('a', 'aaaa') %}"), bytes);
    check(&doubled("{% set ns.x = ns.x.replace('a', 'aaaa') %}"), bytes);
    check(&doubled("{% set ns.x = [ns.x] | map('replace', 'a', 'aaaa') | join %}"), bytes);
    check(&doubled("{% set ns.x = ns.x.join([ns.x, ns.x, ns.x]) %}"), bytes);
    check(&doubled("{% set ns.x = ([ns.x] * 9) | join(ns.x) %}"), bytes);
    check(&doubled("{% set ns.x = ns.x | tojson %}").replace("'ab'", "'\\\\'"), bytes);
    check(&doubled("{% set ns.x = ns.x | pprint %}").replace("'ab'", "'\\\\'"), bytes);
    check(&doubled("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"), bytes);
    check(&doubled("{% set ns.x = [ns.x, ns.x] %}"), items);
    check(&doubled("{% set ns.x = [ns.x, ns.x, ns.x, ns.x] %}"), items);
    check(&doubled("{% set ns.x = {'a': ns.x, 'b': ns.x, 'c': ns.x, 'd': ns.x} %}"), items);
    check(&doubled("{% set ns.x = [1] + (ns.x if i else []) + (ns.x if i else []) %}{{ ns.x | length }}"), items);
    check("{% set ns = namespace() %}{% for i in range(900) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}", "64 levels");
    check("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "64 levels");
    check("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns ~ '' }}", "64 levels");
    check("{{ 'a' * 100000000 }}", "products of constants");
    check("{{ ('a' * (100000)) * 100000 }}", "products of constants");
    check("{{ [1] * 10 ** 9 }}", "products of constants");
    check("{% set n = 100000000 %}{{ 'a' * n }}", bytes);
    check("{% set n = 100000000 %}{{ [1] * n }}", items);
    check("{{ '%99999999d' | format(1) }}{{ '%99999999d'.format(1) }}", "a width");
    check("{{ [1] | batch(99999999, 'x') | list }}", items);
    check("{{ [1] | slice(99999999) | list }}", items);
    check("{{ 'a' | indent(99999999, true) }}{{ 'a' | indent(width=99999999) }}", bytes);
    check("{{ ' ' | indent(width=99999999, first=true) }}", bytes);
    check("{% set n = 2097152 %}{% set x = 'a' * n %}{{ [1, 2, 3, 4] | join(d=x) }}", bytes);
    check(&"{{ x }}".repeat(200_000), "the chat template has 1400000 bytes, expected at most 1048576");
    check(&format!("{}{}", "{% if true %}".repeat(5000), "{% endif %}".repeat(5000)), "does not parse");
    check(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "does not parse");
}

#[test]
fn render_limits_allow_long_conversations() {
    // A conversation of 2,000 turns with 2 MB of text, and the constructs of published templates.
    let template = "{% set ns = namespace(text='', list=[]) %}{% for message in messages %}{% if message.role == 'user' %}\
        {% set ns.list = ns.list + [message.content] %}{{ '<|' + message.role ~ '|>' + message.content.split('=')[-1] | trim }}\
        {% else %}{{ message.content.replace('b', 'c') | trim }}{{ {'role': message.role, 'n': loop.index * 2} | tojson }}\
        {% endif %}{% endfor %}{{ '-' * 40 }}{{ ns.list | length }}{{ (1 + 2) * 3 }}{{ (1, 'a') }}{{ [1, 'a'] }}";
    let text = text("{}", Some(template)).unwrap();
    let turn = |index: usize| Message::new(if index.is_multiple_of(2) { "user" } else { "assistant" }, "b=a ".repeat(250));
    let turns: Vec<Message> = (0..2000).map(turn).collect();
    let rendered = text.render(&turns, false).unwrap();
    assert!(rendered.starts_with("<|user|>a") && rendered.contains("{\"role\": \"assistant\", \"n\": 4000}"));
    assert!(rendered.ends_with(&format!("{}10009(1, 'a')[1, 'a']", "-".repeat(40))), "{}", &rendered[rendered.len() - 80..]);
}

#[test]
fn render_normalizes_line_ends() {
    let plain = "{% if true %}\nQ: {{ messages[0].content }}\n{% endif %}\nA:{{ 'x\ny' }}\n";
    let expected = rendered(plain).unwrap();
    assert!(expected.contains("x\ny") && !expected.contains('\r'));
    for other in [plain.replace('\n', "\r\n"), plain.replace('\n', "\r"), format!("\u{FEFF}{plain}")] {
        assert_eq!(rendered(&other).unwrap(), expected);
        let config = serde_json::json!({ "chat_template": other }).to_string();
        assert_eq!(text(&config, None).unwrap().render(&[Message::new("user", "a=b")], true).unwrap(), expected);
        let chat = ChatSettings { template: Some(other.into_bytes()), ..ChatSettings::default() };
        let replaced = text("{}", None).unwrap().with_chat(&chat).unwrap();
        assert_eq!(replaced.render(&[Message::new("user", "a=b")], true).unwrap(), expected);
        assert_eq!(replaced.template_checksum(), text("{}", Some(plain)).unwrap().template_checksum());
    }
    assert_eq!(rendered("{{ 'a\\r\\nb' }}").unwrap(), "a\r\nb");
}

#[test]
fn from_files_reads_templates_and_special_tokens() {
    let check = |config: &str, expected: &str| {
        let text = text(config, None).unwrap();
        assert!(text.has_template());
        assert_eq!(text.render(&[], false).unwrap(), expected, "{config}");
    };
    check(r#"{"bos_token": "<s>", "eos_token": null, "chat_template": "{{ bos_token }}{{ eos_token }}|"}"#, "<s>|");
    check(r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}"}"#, "<s>");
    check(r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#, "d");
    assert_eq!(text(r#"{"chat_template": "no"}"#, Some("yes")).unwrap().render(&[], false).unwrap(), "yes");
    assert_eq!(text(r#"{"eos_token": "<end>"}"#, None).unwrap().special_token("eos_token"), Some("<end>"));
    let error = text(r#"{"chat_template": [{"name": "rag", "template": "t"}]}"#, None).err().unwrap().to_string();
    assert!(error.contains(r#"["rag"]"#), "{error}");
}

#[test]
fn prompt_appends_the_instruction_to_the_question() {
    let text = text("{}", Some("{{ messages[0].role }}|{{ messages[0].content }}")).unwrap();
    let problem = Arc::new(Problem { id: "p".into(), question: "hi".into(), answer: "1".into(), ..Problem::default() });
    let prompt = text.prompt(problem.clone(), " hi").unwrap();
    assert_eq!((prompt.text.as_str(), prompt.problem.id.as_str()), ("user|hi hi", "p"));
    assert_eq!(text.decode(&prompt.ids).unwrap(), "hhi hi".replacen('h', "", 1));
    assert_eq!(text.prompt(problem, "").unwrap().text, "user|hi");
}

#[test]
fn prompt_contains_every_turn_or_fails() {
    let all =
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let user_turns = "{% for m in messages if m.role == 'user' %}{{ m.content }}|{% endfor %}";
    let render = |template: &str, context: &[(&str, &str)], prefill: &str| {
        let context = context.iter().map(|(role, content)| Message::new(*role, *content)).collect();
        let problem = Problem { id: "p".into(), question: "q".into(), context, prefill: prefill.into(), ..Problem::default() };
        super::conversation::render(&text("{}", Some(template)).unwrap(), &problem, " i")
    };
    let turns = [("system", "In French."), ("user", "1+1?"), ("assistant", " 2")];
    let before = "<system>In French.</><user>1+1?</><assistant>2</><user>q i</>";
    assert_eq!(render(all, &turns, "").unwrap(), format!("{before}<assistant>"));
    assert_eq!(render(all, &turns, "Let us ").unwrap(), format!("{before}<assistant>Let us "));
    let error = |template: &str, context: &[(&str, &str)], prefill: &str| render(template, context, prefill).unwrap_err().to_string();
    let found = error(user_turns, &turns, "");
    assert!(found.starts_with("p: the chat template drops or changes the system turn \"In French.\" before the question"), "{found}");
    let found = error(user_turns, &turns[1..2], "Let us");
    assert!(found.starts_with("p: the chat template cannot continue an answer that starts with \"Let us\""), "{found}");
}

#[test]
fn from_folder_names_a_malformed_file() {
    let folder = tempfile::tempdir().unwrap();
    let check = |expected: &str| {
        let error = format!("{:#}", Text::from_folder(folder.path()).err().unwrap());
        assert!(error.contains(expected) && error.contains(folder.path().to_str().unwrap()), "{error}");
    };
    check("no tokenizer.json");
    std::fs::write(folder.path().join("tokenizer.json"), &TOKENIZER[..200]).unwrap();
    check("tokenizer.json is not a valid tokenizer");
    std::fs::write(folder.path().join("tokenizer.json"), TOKENIZER).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
    check("tokenizer_config.json is not JSON");
    std::fs::write(folder.path().join("tokenizer_config.json"), "{}").unwrap();
    assert!(!Text::from_folder(folder.path()).unwrap().has_template());
    assert!(Text::from_folder(&folder.path().join("missing")).is_err());
}

#[test]
fn text_is_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Text>();
}

/// The expected values are from Python's jinja2, as in `render_matches_transformers`.
#[test]
fn render_matches_transformers_on_published_templates() {
    let Some(folder) = shared("models/templates") else {
        return;
    };
    let one = [Message::new("user", " What is 1 + 1?\n")];
    let many = [
        Message::new("system", "Be brief. "),
        Message::new("user", "Hi é"),
        Message::new("assistant", "<think>x</think>Hello"),
        Message::new("user", "Bye"),
    ];
    let check = |name: &str, bos: &str, messages: &[Message], prefix: &str, opening: &str| {
        let template = std::fs::read_to_string(folder.join(name)).unwrap();
        let config = serde_json::json!({ "bos_token": bos }).to_string();
        let text = text(&config, Some(&template)).unwrap().with_date("2024-07-26").unwrap();
        assert_eq!(text.render(messages, false).unwrap(), prefix, "{name}");
        assert_eq!(text.render(messages, true).unwrap(), format!("{prefix}{opening}"), "{name}");
    };
    let (name, opening) = ("qwen2.5-math.jinja", "<|im_start|>assistant\n");
    check(
        name,
        "",
        &one,
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n\
         <|im_start|>user\n What is 1 + 1?\n<|im_end|>\n",
        opening,
    );
    check(
        name,
        "",
        &many,
        "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\nHi é<|im_end|>\n\
         <|im_start|>assistant\n<think>x</think>Hello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
        opening,
    );
    let (name, opening) = ("llama-3.2-3b-instruct.jinja", "<|start_header_id|>assistant<|end_header_id|>\n\n");
    let head =
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    let user = "<|start_header_id|>user<|end_header_id|>\n\n";
    check(name, "<|begin_of_text|>", &one, &format!("{head}<|eot_id|>{user}What is 1 + 1?<|eot_id|>"), opening);
    check(
        name,
        "<|begin_of_text|>",
        &many,
        &format!(
            "{head}Be brief.<|eot_id|>{user}Hi é<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n\
             <think>x</think>Hello<|eot_id|>{user}Bye<|eot_id|>"
        ),
        opening,
    );
    let (name, bos, opening) = ("deepseek-r1-distill-qwen.jinja", "<｜begin▁of▁sentence｜>", "<｜Assistant｜><think>\n");
    check(name, bos, &one, "<｜begin▁of▁sentence｜><｜User｜> What is 1 + 1?\n", opening);
    check(
        name,
        bos,
        &many,
        "<｜begin▁of▁sentence｜>Be brief. <｜User｜>Hi é<｜Assistant｜>Hello<｜end▁of▁sentence｜><｜User｜>Bye",
        opening,
    );
}

#[test]
fn encode_returns_the_published_ids() {
    let Some(folder) = shared("models/qwen2.5-math-1.5b") else {
        return;
    };
    let text = Text::from_folder(&folder).unwrap();
    assert_eq!(text.encode("Hello world").unwrap(), [9707, 1879]);
    assert_eq!(text.encode("<|im_end|><|endoftext|>").unwrap(), [151_645, 151_643]);
    assert_eq!(text.vocabulary(), 151_665);
    assert_eq!(text.special_token("eos_token"), Some("<|endoftext|>"));
    assert_eq!(text.decode(&[9707, 151_645, 151_900, 1879]).unwrap(), "Hello world");
    assert!((0..151_665).all(|id| text.has_token(id)));
    let prompt = text.render(&[Message::new("user", "1+1?")], true).unwrap();
    assert!(
        prompt.starts_with("<|im_start|>system\nPlease reason step by step") && prompt.ends_with("1+1?<|im_end|>\n<|im_start|>assistant\n")
    );
    let sample = "Größe: ∑ 你好 😀👩‍👧 \u{0301} a\u{200d}b\n\n  x";
    let ids = text.encode(sample).unwrap();
    let mut stream = text.stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{pieces:?}");
    assert_eq!(pieces.concat() + &stream.finish().unwrap(), text.decode(&ids).unwrap());
}
