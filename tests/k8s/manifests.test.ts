/** Every manifest before an API server, which needs no node for it: the short form of the cluster's test. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { tandem, temporaryFolder } from "../e2e/tandem.js";
import { Cluster } from "./cluster.mjs";
import { kustomization, manifestsOf, ROOT } from "./kustomization.js";
import { writeSchemas } from "./schemas.mjs";

const { TANDEM_TEST_FOLDER: place } = process.env;
if (place === undefined) throw new Error("npm run test:k8s runs these, in namespaces of their own");
const folder = temporaryFolder();
const OVERLAYS = readdirSync(join(ROOT, "k8s/overlays"));
const COMPONENTS = readdirSync(join(ROOT, "k8s/components"));

let cluster: Cluster;

describe("every manifest", () => {
  const builtOf = (name: string, more: object) =>
    cluster.kubectl(["kustomize", kustomization(join(folder, name), more)]);
  const built = new Map<string, string>();

  beforeAll(async () => {
    cluster = await Cluster.start(place, []);
    cluster.define();
    for (const name of OVERLAYS) built.set(`overlay ${name}`, builtOf(`overlay-${name}`, { resources: [`k8s/overlays/${name}`] })); // prettier-ignore
    for (const name of COMPONENTS) {
      const more = { resources: ["k8s/base"], components: [`k8s/components/${name}`] };
      built.set(`component ${name}`, builtOf(`component-${name}`, more));
    }
    built.set("example autoscaler", readFileSync(join(ROOT, "k8s/overlays/spot/autoscaler.yaml"), "utf8"));
    cluster.kubectl(["create", "namespace", "strict"]);
    cluster.kubectl(["-n", "strict", "create", "serviceaccount", "tandem"]);
    cluster.kubectl(["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
  });

  it.each([
    ...OVERLAYS.map((name) => `overlay ${name}`),
    ...COMPONENTS.map((name) => `component ${name}`),
    "example autoscaler",
  ])("of %s passes the API server's strict validation", (name) => {
    const text = built.get(name) ?? "";
    const said = cluster.kubectl(["-n", "strict", "apply", "--dry-run=server", "--validate=strict", "-f", "-"], text);
    expect(said.trim().split("\n")).toHaveLength(manifestsOf(text).length);
  });

  it("passes kubeconform", () => {
    const schemas = join(folder, "schemas");
    writeSchemas(JSON.parse(cluster.kubectl(["get", "--raw", "/openapi/v2"])) as object, schemas);
    const at = join(schemas, "{{.ResourceKind}}{{.KindSuffix}}.json");
    const conform = (text: string) => cluster.conform(["-strict", "-summary", "-schema-location", at, "-"], text);
    expect(conform([...built.values()].join("---\n"))).toMatch(/Valid: \d{2,}, Invalid: 0, Errors: 0, Skipped: 0/);
    // It does refuse a field that there is not, however deep.
    const slip = (built.get("overlay jobset") ?? "").replaceAll("periodSeconds", "periodSecond");
    expect(() => conform(slip)).toThrow(/Command failed/);
  });

  it("makes pods that pass the Pod Security Standard `restricted`", () => {
    const templates = (value: unknown): object[] => {
      if (typeof value !== "object" || value === null) return [];
      return Object.entries(value).flatMap(([key, inner]) => {
        const isPod = key === "template" && "containers" in ((inner as { spec?: object }).spec ?? {});
        return isPod ? [inner as object] : templates(inner);
      });
    };
    const pods = [...built.values()].flatMap((text) => templates(manifestsOf(text)));
    expect(pods.length).toBeGreaterThan(2 * OVERLAYS.length);
    for (const [index, pod] of pods.entries()) {
      const manifest = structuredClone(pod) as { metadata: object; spec: { volumes?: { name: string }[] } };
      const claims = [{ name: "run", emptyDir: {} }];
      if (manifest.spec.volumes?.every(({ name }) => name !== "run")) manifest.spec.volumes.push(...claims);
      const whole = { apiVersion: "v1", kind: "Pod", ...manifest, metadata: { ...manifest.metadata, name: `pod-${String(index)}` } }; // prettier-ignore
      cluster.kubectl(["-n", "strict", "create", "--dry-run=server", "-f", "-"], JSON.stringify(whole));
    }
    // It does refuse others.
    const root = { apiVersion: "v1", kind: "Pod", metadata: { name: "root" }, spec: { serviceAccountName: "tandem", containers: [{ name: "a", image: "a:1" }] } }; // prettier-ignore
    const createRoot = () => cluster.kubectl(["-n", "strict", "create", "--dry-run=server", "-f", "-"], JSON.stringify(root)); // prettier-ignore
    expect(createRoot).toThrow(/violates PodSecurity "restricted/);
  });

  it.each(OVERLAYS)("of %s is the same from kustomize and from tandem k8s render", async (name) => {
    const { stdout, code, stderr } = await tandem(["k8s", "render", "--preset", name]);
    expect(code, stderr).toBe(0);
    const byName = (text: string) => new Map(manifestsOf(text).map((each) => [`${each.kind} ${each.metadata.name}`, each])); // prettier-ignore
    expect(byName(stdout)).toEqual(byName(built.get(`overlay ${name}`) ?? ""));
  });
});
