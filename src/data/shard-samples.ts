/** The samples of one tar shard: which members belong together, which is the picture, and what its label is. */
import { basename } from "node:path";
import { UserError } from "../protocol/errors.js";
import { fileErrorCode } from "./file-error.js";
import { PositionedFile } from "./positioned-file.js";
import { TarError, tarMembers, type TarMember } from "./tar-members.js";

const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set(["jpg", "jpeg", "png", "webp"]);

/** Labels are 0 to this: they number the classes. */
const GREATEST_LABEL = 999_999;
const MOST_LABEL_BYTES = 1 << 20;

/** WebDataset's rule: the key is the path up to the first dot of the file's name, the extension what follows. */
const KEY_AND_EXTENSION = /^((?:.*\/)?[^./][^./]*)\.([^/]*)$/s;

export interface ShardSample {
  readonly key: string;
  readonly image: TarMember;
  /** −1 without one */
  readonly label: number;
}

/** Members of one key, in their order in the shard. */
interface Group {
  readonly key: string;
  readonly members: Map<string, TarMember>;
}

/**
 * Reads the headers of a shard, and its labels (`.cls`, else `label` or `cls` in `.json`); no picture.
 * @throws UserError `DATA_MISSING_SHARD`, `DATA_BAD_SHARD`, `DATA_DUPLICATE_KEY`, `DATA_NO_IMAGE`, `DATA_TWO_IMAGES`, `DATA_BAD_LABEL`
 */
export async function readShardSamples(path: string): Promise<ShardSample[]> {
  const file = await PositionedFile.open(path).catch((cause: unknown) => {
    throw new UserError(
      "DATA_MISSING_SHARD",
      `shard "${path}" cannot be read (${fileErrorCode(cause)}): check the path and the range`,
      { cause },
    );
  });
  try {
    const samples: ShardSample[] = [];
    for (const group of await groupsOf(file, path)) samples.push(await sampleOf(group, file, path));
    return samples;
  } catch (error) {
    if (error instanceof TarError) {
      throw new UserError("DATA_BAD_SHARD", `shard "${path}" ${error.message}: copy or write it again`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    await file.close();
  }
}

async function groupsOf(file: PositionedFile, path: string): Promise<Group[]> {
  const groups: Group[] = [];
  const keys = new Set<string>();
  for await (const member of tarMembers(file)) {
    const [, key, dotted] = KEY_AND_EXTENSION.exec(member.name) ?? [];
    if (key === undefined || /^__.*__$/.test(basename(key))) continue;
    const extension = dotted.toLowerCase();
    let group = groups.at(-1);
    if (group?.key !== key) {
      if (keys.has(key))
        throw repeated(path, key, "apart from its first files: write the files of a sample side by side");
      keys.add(key);
      group = { key, members: new Map() };
      groups.push(group);
    }
    if (group.members.has(extension))
      throw repeated(path, key, `with two files .${extension}: give each sample its own key`);
    group.members.set(extension, member);
  }
  return groups;
}

function repeated(path: string, key: string, how: string): UserError {
  return new UserError("DATA_DUPLICATE_KEY", `shard "${path}" has the key "${key}" again, ${how}`);
}

async function sampleOf({ key, members }: Group, file: PositionedFile, path: string): Promise<ShardSample> {
  const images = [...members].filter(([extension]) => IMAGE_EXTENSIONS.has(extension));
  if (images.length === 0) {
    throw new UserError(
      "DATA_NO_IMAGE",
      `shard "${path}" has no .jpg, .jpeg, .png or .webp for the key "${key}", only .${[...members.keys()].join(", .")}: add or remove it`,
    );
  }
  if (images.length > 1) {
    const [[first], [second]] = images;
    throw new UserError(
      "DATA_TWO_IMAGES",
      `shard "${path}" has .${first} and .${second} for the key "${key}": keep one`,
    );
  }
  return { key, image: images[0][1], label: await labelOf(members, file, path) };
}

async function labelOf(members: ReadonlyMap<string, TarMember>, file: PositionedFile, path: string): Promise<number> {
  const member = members.get("cls") ?? members.get("json");
  if (member === undefined) return -1;
  const refusal = (found: string) =>
    new UserError(
      "DATA_BAD_LABEL",
      `shard "${path}" has ${found} in "${member.name}": a label is a whole number from 0 to ${GREATEST_LABEL}`,
    );
  if (member.bytes > MOST_LABEL_BYTES) throw refusal(`${member.bytes} bytes`);
  const text = (await file.read(member.offset, member.bytes)).toString("utf8");
  const label = members.has("cls") ? wholeNumber(text.trim()) : labelField(text);
  if (label === undefined) return -1;
  if (typeof label !== "number" || !Number.isInteger(label) || label < 0 || label > GREATEST_LABEL) {
    throw refusal(`the label ${JSON.stringify(label).slice(0, MOST_SHOWN)}`);
  }
  return label;
}

/** Characters of a wrong label that a message shows. */
const MOST_SHOWN = 40;

/** @returns the text itself where it is no whole number */
function wholeNumber(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

/** @returns undefined where the object names no label; the text itself where it is no JSON object */
function labelField(text: string): unknown {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return text;
  }
  if (typeof content !== "object" || content === null) return content;
  const named = ["label", "cls"].find((name) => Object.hasOwn(content, name));
  return named === undefined ? undefined : Reflect.get(content, named);
}
