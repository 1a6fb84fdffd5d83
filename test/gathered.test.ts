/** Pieces of every size come out as one, byte for byte. */
import { describe, expect, test } from 'vitest'
import { Gathered } from '../src/gathered.ts'
import { seeded } from './support/seeded.ts'

/** `bytes` cut at random into pieces of up to `most` bytes, some of them empty. */
function cut(bytes: Buffer, most: number, random: () => number): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + Math.floor(random() * (most + 1))
    pieces.push(bytes.subarray(at, end))
    at = end
  }
  return pieces
}

describe('pieces', () => {
  const random = seeded(7)
  const bytes = Buffer.from(Array.from({ length: 300_000 }, () => Math.floor(random() * 256)))

  test.each([1, 7, 3_000, 16_384, 70_000, 300_000])('of up to %i bytes', (most) => {
    for (const expected of [0, 100_000, bytes.length, 400_000]) {
      const gathered = new Gathered()
      if (expected > 0) gathered.expect(expected)
      for (const piece of cut(bytes, most, random)) gathered.add(piece)
      expect(gathered.length).toBe(bytes.length)
      expect(gathered.take().equals(bytes)).toBe(true)
      expect(gathered.length).toBe(0)
    }
  })

  test('large and small ones by turns', () => {
    const sizes = [1, 20_000, 3, 17_000, 17_000, 5, 5, 80_000, 1]
    let at = 0
    const gathered = new Gathered()
    for (const size of sizes) {
      gathered.add(bytes.subarray(at, at + size))
      at += size
    }
    expect(gathered.take().equals(bytes.subarray(0, at))).toBe(true)
  })

  test('very many: from the second megabyte on each is copied as it comes', () => {
    const all = Buffer.from(Uint8Array.from({ length: 9_000_000 }, (_, i) => i * 7 + (i >> 8)))
    const gathered = new Gathered()
    for (let at = 0; at < all.length; at += 65_536) {
      const piece = Buffer.from(all.subarray(at, at + 65_536))
      gathered.add(piece)
      if (at >= 2_000_000) piece.fill(0)
    }
    expect(gathered.take().equals(all)).toBe(true)
  })

  test('what was handed out stays as it is while the next is gathered', () => {
    const gathered = new Gathered()
    gathered.add(Buffer.from('a'))
    gathered.add(Buffer.from('b'))
    const first = gathered.take()
    gathered.add(Buffer.from('c'))
    gathered.add(Buffer.from('d'))
    expect([first.toString(), gathered.take().toString()]).toEqual(['ab', 'cd'])
  })

  test('none are nothing', () => {
    expect(new Gathered().take()).toEqual(Buffer.alloc(0))
  })
})
