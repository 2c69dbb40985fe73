// How pages look: each is checked by axe-core, and kept as pictures where a folder is given.
const fs = require('node:fs');
const path = require('node:path');

const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = [390, 1280];
const SCHEMES = ['light', 'dark'];

class Looks {
  constructor(folder) {
    this.folder = folder;
    this.findings = [];
    if (folder) fs.mkdirSync(folder, { recursive: true });
  }

  // Looks at a page in light and dark, narrow and wide.
  async at(page, name) {
    for (const scheme of SCHEMES) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: 900 });
        await this.check(page, `${name}, ${scheme}, ${width}`);
        if (this.folder) {
          const picture = path.join(this.folder, `${name}-${scheme}-${width}.png`);
          await page.screenshot({ path: picture, fullPage: true });
        }
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1280, height: 900 });
  }

  async check(page, where) {
    // Through the debugger, for the page's own policy lets no foreign script in.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    for (const violation of violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')) {
      const nodes = violation.nodes.slice(0, 3).map((node) => node.html).join('\n    ');
      this.findings.push(`${where}: ${violation.id}, ${violation.help}\n    ${nodes}`);
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) this.findings.push(`${where}: ${wide} pixels wider than the window`);
  }
}

module.exports = { Looks };
