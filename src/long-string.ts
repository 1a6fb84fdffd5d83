/**
 * The inside of a long JSON string, skipped 16 bytes at a time: WebAssembly has the instructions, JavaScript has not.
 *
 * Not the grammar (json.ts): it stops at what ends a string, rightly or not. (With the grammar in WebAssembly too, what
 * has just begun is quicker, a burst of 20,000 events 120 ms and not 140 on Node 20; but a call under load takes 36 us
 * of CPU and not 31, and the process 71 MB after it and not 54.)
 * The one rule: nothing is passed over that a JSON string may not hold. 10 MB of text take 4 ms (8 in JavaScript,
 * and 15 the first time); of letters alone 2.
 */

/** long-string.wat, assembled: test/long-string.test.ts keeps them in step, and says what has to stand here. */
export const MODULE =
  'AGFzbQEAAAABBgFgAX8BfwMCAQAFAwEAAgcRAgZtZW1vcnkCAARza2lwAAAKlAIBkQIDAX8BewN/A0AgASAATwRAIAAPCyAB/QAEACECIAJBIP0P/SYgAkEi/Q/9IyACQdwA/Q/9I/1Q/VD9ZCEDA0AgA0UEQCABQRBqIQEMAgsgA2ghBSABIAVqIQQgBCAATwRAIAAPCyAELQAAQdwARwRAIAQPCyAELQABLQCAgARBAXEEQCAEQQJqIABLBEAgBA8LIAVBD0YEQCAEQQJqIQEMAwsgA0F8IAV0cSEDDAELIARBBmogAEsEQCAEDwsgBC0AAUH1AEcEQCAEDwtBAiAELQACLQCAgAQgBC0AAy0AgIAEcSAELQAELQCAgAQgBC0ABS0AgIAEcXFxRQRAIAQPCyADQX4gBXRxIQMMAAsLAAsLSwYAQaKABAsBAQBBr4AECwsBAgICAgICAgICAgBBwYAECwYCAgICAgIAQdyABAsBAQBB4YAECwYCAwICAgMAQe6ABAsHAQAAAAEAAQ=='

/** So much is looked at first, and four times as much each time after that. */
const FIRST_BYTES = 4 * 1024
const MOST_BYTES = 64 * 1024

interface Skipper {
  /** Its first 64 KiB are the text. */
  readonly memory: Uint8Array
  /** The index of the first byte that is no plain character and begins no whole escape before `end`, else `end`. */
  skip(end: number): number
}

// (The types of Node have the name, those of browsers what is in it.)
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: unknown }
}

/** Made when a long string comes; null where it can't be (--jitless has no WebAssembly, an old processor no SIMD). */
let skipper: Skipper | null | undefined

/**
 * From `from` on, inside a string: the index of the first byte that is no plain character and begins no valid escape,
 * so a quote or an error, or the length of `text`. Undefined where this machine can't tell.
 */
export function skipPlain(text: Buffer, from: number): number | undefined {
  if (skipper === undefined) skipper = makeSkipper()
  if (skipper === null) return undefined
  let at = from
  for (let bytes = FIRST_BYTES; at < text.length; bytes = Math.min(4 * bytes, MOST_BYTES)) {
    const piece = text.subarray(at, at + bytes)
    skipper.memory.set(piece)
    const skipped = skipper.skip(piece.length)
    at += skipped
    // (An escape that was cut is whole in the next piece, which begins with it.)
    if (skipped === 0 || (skipped < piece.length && text[at] !== BACKSLASH)) return at
  }
  return at
}

const BACKSLASH = 0x5c

function makeSkipper(): Skipper | null {
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(MODULE, 'base64')))
    const { memory, skip } = exports as { memory: { buffer: ArrayBuffer }; skip: Skipper['skip'] }
    return { memory: new Uint8Array(memory.buffer), skip }
  } catch {
    return null
  }
}
