/** The part of @huggingface/tokenizers that is used; the types that it brings leave out the extensions of files, which Node's resolution wants. */
declare module "@huggingface/tokenizers" {
  export class Tokenizer {
    /**
     * @param tokenizer what `tokenizer.json` holds
     * @param config what `tokenizer_config.json` holds
     */
    constructor(tokenizer: object, config: object);
    encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: number[] };
  }
}
