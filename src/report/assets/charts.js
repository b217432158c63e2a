
// Values of charts on hover and with the arrow keys, and their numbers as a CSV file. Pictures need none of this to be read.
{
  // Splits CSV into rows of cells; cells in quotes may contain commas, quotes and line ends.
  const parseCsv = (text) => {
    const rows = [[]];
    for (const [, separator, quoted, plain] of text.matchAll(/(^|,|\r?\n)(?:"((?:[^"]|"")*)"|([^",\r\n]*))/g)) {
      if (separator.endsWith("\n")) rows.push([]);
      rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    }
    return rows.filter((row) => row.length > 1);
  };

  // Restores the steps that the page leaves out: a line that starts with a tab continues the distance between the two lines above it.
  const numbersOf = async (figure) => {
    const lines = (await rlvr.unpack(figure.dataset.csv)).split("\n");
    for (let index = 3; index < lines.length; index++) {
      if (!lines[index].startsWith("\t")) continue;
      const [before, last] = [lines[index - 2], lines[index - 1]].map((line) => Number.parseInt(line, 10));
      lines[index] = `${2 * last - before}${lines[index].slice(1)}`;
    }
    return lines.join("\n");
  };

  // Groups columns into series: a name, and the indices of its value and of the ends of its interval.
  const seriesOf = (header) => {
    const series = [];
    for (let column = 1; column < header.length; column++) {
      const name = header[column];
      const hasEnds = header[column + 1] === `${name} low` && header[column + 2] === `${name} high`;
      series.push({ name, column, ends: hasEnds ? [column + 1, column + 2] : null });
      if (hasEnds) column += 2;
    }
    return series;
  };

  const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const number = (value, percent) => {
    if (percent) return `${(100 * value).toFixed(1)}%`;
    const size = Math.abs(value);
    return size > 0 && (size < 1e-4 || size >= 1e7) ? value.toExponential(2) : digits.format(value);
  };

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.picture = figure.querySelector(".picture");
      this.pictures = [...this.picture.querySelectorAll("svg")];
      this.readout = figure.querySelector(".readout");
      this.position = null;
      if (!this.svg?.dataset.chart) return;
      this.isBar = this.svg.dataset.chart === "bar";
      this.picture.append(this.readout);
      this.picture.tabIndex = 0;
      this.picture.setAttribute("role", "group");
      this.picture.setAttribute("aria-label", `${figure.querySelector("h3").textContent}: arrow keys read the values`);
      for (const svg of this.pictures) {
        svg.addEventListener("pointermove", (event) => this.point(event));
        svg.addEventListener("pointerdown", (event) => this.point(event));
        svg.addEventListener("pointerleave", () => this.hide());
      }
      this.picture.addEventListener("keydown", (event) => this.key(event));
      this.picture.addEventListener("blur", () => this.hide());
      const button = figure.querySelector("button.csv");
      button.hidden = false;
      button.addEventListener("click", async () => {
        rlvr.download(`${figure.id}.csv`, await numbersOf(figure), "text/csv");
      });
    }

    // The picture that is shown: some figures have one for wide and one for narrow screens.
    get svg() {
      return this.pictures.find((svg) => svg.getClientRects().length > 0) ?? this.pictures[0];
    }

    // Unpacks the numbers when a reader first asks for one.
    load() {
      this.loading ??= numbersOf(this.figure).then((text) => {
        const [header, ...rows] = parseCsv(text);
        this.label = header[0];
        this.series = seriesOf(header);
        this.rows = rows;
        this.xs = rows.map((row, index) => (this.isBar ? index : Number(row[0])));
        this.percent = [...this.svg.querySelectorAll("text")].some((text) => /^[−-]?[\d.,]+%$/.test(text.textContent));
      });
      return this.loading;
    }

    frame(name) {
      return Number(this.svg.dataset[name]);
    }

    // Where a row lies, in units of the SVG: x in charts over steps, y in charts of bars.
    place(index) {
      const [top, bottom] = [this.frame("top"), this.frame("bottom")];
      if (this.isBar) return top + ((index + 0.5) * (bottom - top)) / this.rows.length;
      const scale = this.svg.dataset.xscale === "log" ? Math.log : (value) => value;
      const [start, end] = [scale(this.frame("x0")), scale(this.frame("x1"))];
      const share = end === start ? 0.5 : (scale(this.xs[index]) - start) / (end - start);
      return this.frame("left") + share * (this.frame("right") - this.frame("left"));
    }

    async point(event) {
      const box = this.svg.getBoundingClientRect();
      const size = this.svg.viewBox.baseVal;
      const at = this.isBar ? ((event.clientY - box.top) / box.height) * size.height : ((event.clientX - box.left) / box.width) * size.width;
      this.inside = true;
      await this.load();
      if (!this.inside || this.rows.length === 0) return;
      let best = 0;
      for (let index = 1; index < this.rows.length; index++) {
        if (Math.abs(this.place(index) - at) < Math.abs(this.place(best) - at)) best = index;
      }
      this.show(best);
    }

    async key(event) {
      const moves = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") return this.hide();
      const move = moves[event.key];
      if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      await this.load();
      if (this.rows.length === 0) return;
      const last = this.rows.length - 1;
      const start = this.position ?? (move > 0 ? -1 : last + 1);
      this.show(Math.min(last, Math.max(0, start + move)));
    }

    // The row with a value of a series that is nearest to a row; null if the series has no value.
    nearest(column, index) {
      for (let distance = 0; distance < this.rows.length; distance++) {
        for (const candidate of [index - distance, index + distance]) {
          if (this.rows[candidate]?.[column]) return candidate;
        }
      }
      return null;
    }

    lines(index) {
      const lines = [this.isBar ? this.rows[index][0] : `${this.label} ${digits.format(this.xs[index])}`];
      for (const { name, column, ends } of this.series) {
        const row = this.isBar ? index : this.nearest(column, index);
        if (row === null || !this.rows[row][column]) continue;
        const [low, high] = (ends ?? []).map((end) => this.rows[row][end]);
        const interval = low && high ? ` [${number(Number(low), this.percent)}, ${number(Number(high), this.percent)}]` : "";
        const where = row === index ? "" : ` (at ${digits.format(this.xs[row])})`;
        lines.push(`${name}${where}: ${number(Number(this.rows[row][column]), this.percent)}${interval}`);
      }
      return lines;
    }

    show(index) {
      this.position = index;
      this.readout.textContent = this.lines(index).join("\n");
      this.readout.hidden = false;
      const at = this.place(index);
      const scale = this.svg.getBoundingClientRect().width / this.svg.viewBox.baseVal.width;
      this.cursor ??= document.createElementNS("http://www.w3.org/2000/svg", "line");
      this.svg.append(this.cursor);
      this.cursor.setAttribute("class", "cursor");
      const ends = this.isBar
        ? { x1: this.frame("left"), x2: this.frame("right"), y1: at, y2: at }
        : { x1: at, x2: at, y1: this.frame("top"), y2: this.frame("bottom") };
      for (const [name, value] of Object.entries(ends)) this.cursor.setAttribute(name, value);
      const room = this.picture.clientWidth - this.readout.offsetWidth;
      const left = this.isBar ? room : at * scale + 12 <= room ? at * scale + 12 : at * scale - 12 - this.readout.offsetWidth;
      const top = this.isBar ? at * scale + 10 : this.frame("top") * scale;
      this.readout.style.left = `${Math.max(0, Math.min(room, left))}px`;
      this.readout.style.top = `${top}px`;
    }

    hide() {
      this.inside = false;
      this.position = null;
      this.readout.hidden = true;
      this.cursor?.remove();
      this.cursor = undefined;
    }
  }

  // A served page that replaces its sections calls this again for the new ones.
  rlvr.startCharts = (root) => {
    for (const figure of root.querySelectorAll("figure.chart")) new Chart(figure);
  };
  rlvr.startCharts(document);
}
