// Reads every *.mjs of a folder as a module, and runs none.

import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { SourceTextModule } from 'node:vm'

const folder = process.argv[2]
for (const name of readdirSync(folder).filter((name) => name.endsWith('.mjs'))) {
  new SourceTextModule(readFileSync(join(folder, name), 'utf8'), { identifier: name })
}
