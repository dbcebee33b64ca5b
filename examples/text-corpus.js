/**
 * Makes a small labelled corpus, and a tokenizer for it:
 *   node examples/text-corpus.js OUT [TRAIN] [TEST]     (2000 and 400 texts without numbers)
 * writes OUT/train.jsonl, OUT/test.jsonl and OUT/tokenizer.json.
 *
 * A text is a few sentences with nouns and verbs of one of eight topics, among words that all topics share. No word names its
 * topic: which words belong together shows only in their standing in the same texts, which is what contrast between parts of
 * a text can learn.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const TOPICS = {
  sea: "harbour anchor sailor tide lighthouse vessel reef whale captain mast cargo gull moors drifts sails",
  kitchen: "onion oven butter recipe spoon dough pepper kettle garlic pan flour cook simmers bakes stirs",
  astronomy:
    "comet telescope orbit galaxy planet nebula eclipse crater satellite meteor dusk moon glows rotates orbits",
  garden: "tulip soil hedge rake seed orchard compost bee lawn shovel ivy petal blooms withers sprouts",
  music: "violin chorus drum melody pianist concert string trumpet rhythm flute opera tune resounds hums plays",
  court:
    "judge jury verdict witness lawyer appeal evidence bailiff statute trial prison oath testifies objects accuses",
  railway:
    "locomotive platform ticket tunnel conductor signal freight carriage timetable track whistle station departs shunts rattles",
  clinic: "nurse fever vaccine surgeon ward bandage pulse syringe patient tablet clinic doctor heals coughs prescribes",
};
const SHARED_NOUNS =
  "morning letter friend street story window winter question village house number picture river summer table child neighbour week corner answer paper road night door";
const SHARED_VERBS = "remembers finds leaves changes follows wants sees brings waits returns keeps begins";
const ADJECTIVES =
  "old small quiet strange bright heavy slow early narrow warm empty distant plain green broken gentle";
const GLUE = "the a near behind under and while every another this beside before after without";

/** share of nouns and verbs that are the topic's */
const TOPIC_SHARE = 0.45;
const SENTENCES = 3;

const words = (/** @type {string} */ text) => text.split(" ");

/** Marsaglia's xorshift32: the corpus is the same everywhere. @param {number} state */
function generator(state) {
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 16; i++) next();
  return next;
}

/** @param {string} topic @param {() => number} draw */
function textOf(topic, draw) {
  const pick = (/** @type {string[]} */ list) => list[Math.floor(draw() * list.length)];
  const own = words(TOPICS[topic]);
  const noun = () => pick(draw() < TOPIC_SHARE ? own.slice(0, 12) : words(SHARED_NOUNS));
  const verb = () => pick(draw() < TOPIC_SHARE ? own.slice(12) : words(SHARED_VERBS));
  const thing = () =>
    `${pick(["the", "a", "every", "this"])} ${draw() < 0.5 ? `${pick(words(ADJECTIVES))} ` : ""}${noun()}`;
  const sentence = () => {
    const place = `${pick(["near", "behind", "under", "beside", "before", "after", "without"])} ${thing()}`;
    return pick([
      () => `${thing()} ${verb()} ${place}.`,
      () => `${place}, ${thing()} ${verb()}.`,
      () => `${thing()} ${verb()} ${thing()} while ${thing()} ${verb()}.`,
      () => `${thing()} and ${thing()}: ${thing()} ${verb()} ${place}.`,
    ])();
  };
  return Array.from({ length: SENTENCES }, sentence).join(" ");
}

/** @param {number} count @param {number} seed */
function corpus(count, seed) {
  const draw = generator(seed);
  const topics = Object.keys(TOPICS);
  return Array.from({ length: count }, (_, index) => {
    const label = topics[index % topics.length];
    return `${JSON.stringify({ text: textOf(label, draw), label })}\n`;
  }).join("");
}

/** A WordPiece tokenizer as Hugging Face's tokenizers save it: every word of the corpus is a token, others go by letters. */
function tokenizer() {
  const special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
  const letters = words("a b c d e f g h i j k l m n o p q r s t u v w x y z");
  const all = [...Object.values(TOPICS), SHARED_NOUNS, SHARED_VERBS, ADJECTIVES, GLUE].flatMap(words).sort();
  const tokens = [
    ...new Set([...special, ".", ",", ":", ...letters, ...letters.map((letter) => `##${letter}`), ...all]),
  ];
  const id = (/** @type {string} */ token) => tokens.indexOf(token);
  const one = (/** @type {string} */ token) => ({ SpecialToken: { id: token, type_id: 0 } });
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((content) => ({
      ...{
        id: id(content),
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [one("[CLS]"), { Sequence: { id: "A", type_id: 0 } }, one("[SEP]")],
      pair: [
        one("[CLS]"),
        { Sequence: { id: "A", type_id: 0 } },
        one("[SEP]"),
        { Sequence: { id: "B", type_id: 1 } },
        one("[SEP]"),
      ],
      special_tokens: Object.fromEntries(
        ["[CLS]", "[SEP]"].map((token) => [token, { id: token, ids: [id(token)], tokens: [token] }]),
      ),
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      ...{ type: "WordPiece", unk_token: "[UNK]", continuing_subword_prefix: "##", max_input_chars_per_word: 100 },
      vocab: Object.fromEntries(tokens.map((token, index) => [token, index])),
    },
  };
}

const [, , out, train = "2000", test = "400"] = process.argv;
if (out === undefined) {
  process.stderr.write("usage: node examples/text-corpus.js OUT [TRAIN] [TEST]\n");
  process.exit(2);
}
mkdirSync(out, { recursive: true });
writeFileSync(join(out, "train.jsonl"), corpus(Number(train), 1));
writeFileSync(join(out, "test.jsonl"), corpus(Number(test), 2));
writeFileSync(join(out, "tokenizer.json"), `${JSON.stringify(tokenizer(), null, 1)}\n`);
