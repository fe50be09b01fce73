// A figure opens in full size when it is clicked, or by Enter; Escape or another click closes it.
addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "A figure in full size");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", "Close");
  const large = new Image();
  dialog.addEventListener("click", () => dialog.close());
  document.body.append(dialog);

  for (const picture of document.querySelectorAll(".bd-article img")) {
    if (picture.closest("a, button, label, [data-slider], .glowkit-hero, .glowkit-argument")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.title = "Enlarge";
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => {
      const {naturalWidth: width, naturalHeight: height} = picture;
      const fit = Math.min((0.96 * innerWidth) / width, (0.96 * innerHeight) / height);
      large.src = picture.src;
      large.alt = picture.alt;
      // Never smaller than it is: a phone shows a part, and the rest is a swipe away.
      large.width = Math.round(width * Math.max(1, Math.min(fit, 2)));
      dialog.replaceChildren(close, large);
      dialog.showModal();
    });
  }
});
